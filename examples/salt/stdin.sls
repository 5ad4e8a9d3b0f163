# The same with JSON on stdin, for data from a pillar. With test=True Salt runs `test_name`, with the same stdin: `_noop` predicts, and
# changes nothing.

web and db are published:
  cmd.run:
    - name: docker_iptables
    - stdin: '{"container": ["web", "db"], "wait_timeout": 5}'
    - stateful:
      - test_name: sed 's/{/{"_noop":true,/' | docker_iptables
