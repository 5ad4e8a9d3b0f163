# Who may connect: what is published is for the office, and the database for the application's subnet alone. A changed group changes
# each list that names it. The host is set up by docker_iptables.sls. The file is the whole of the host's settings: what else they have,
# and what a setup was given, belongs into it, too.

/etc/docker_iptables.json:
  file.managed:
    - user: root
    - group: root
    - mode: "0644"
    - contents: |
        {
          "allow": {"*": ["@office"]},
          "sources": {"office": ["203.0.113.0/24", "2001:db8:5::/48"]}
        }

db is for the application:
  cmd.run:
    - name: docker_iptables create db --allow 5432/tcp=10.20.0.0/24 --json
    - stateful:
      - test_name: docker_iptables create db --allow 5432/tcp=10.20.0.0/24 --check --json
    - require:
      - file: /etc/docker_iptables.json

all others follow the settings:
  cmd.run:
    - name: docker_iptables sync --json
    - stateful:
      - test_name: docker_iptables sync --check --json
    - require:
      - cmd: db is for the application
