# `unless` predicts, and changes nothing: the resource is in sync when there is nothing to do.
exec { 'docker_iptables create web':
  path   => ['/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'],
  unless => 'docker_iptables create web --check --json | grep -q \'"changed":false\'',
}
