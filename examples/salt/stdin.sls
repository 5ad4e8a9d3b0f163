# The same with JSON on stdin, for data from a pillar. test=True does not run it, and says so.

web and db are published:
  cmd.run:
    - name: docker_iptables
    - stdin: '{"container": ["web", "db"], "wait_timeout": 5}'
    - stateful: True
