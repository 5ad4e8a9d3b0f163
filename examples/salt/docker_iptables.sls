# `stateful` has Salt read `changed` and `comment` from the answer. With test=True it runs `test_name` instead of
# `name`, which predicts and changes nothing.

host is ready:
  cmd.run:
    - name: docker_iptables setup --json
    - stateful:
      - test_name: docker_iptables setup --check --json

web is published:
  cmd.run:
    - name: docker_iptables create web --json
    - stateful:
      - test_name: docker_iptables create web --check --json

old is unpublished:
  cmd.run:
    - name: docker_iptables delete old --json
    - stateful:
      - test_name: docker_iptables delete old --check --json
