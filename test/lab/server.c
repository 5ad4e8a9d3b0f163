/*
 * The server inside the lab's containers: answers each TCP connection and each UDP datagram on the given
 * ports, IPv4 and IPv6, with one line "PEER-ADDRESS PEER-PORT HOST-NAME PORT" and nothing else.
 * UDP answers leave from the address that was asked. SIGTERM and SIGINT end it at once.
 *
 * On a port given as "hold:PORT" a TCP connection stands: each thing said on it is answered with that line. Who
 * says "push", by TCP or UDP, gets the line five times a second from then on, whatever he says.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_PORTS = 2048 };

static struct pollfd sockets[2 * MOST_PORTS];
static int ports[2 * MOST_PORTS];
static int holds[2 * MOST_PORTS];

enum { PUSH_MS = 200 };

static void leave(int number) {
  (void)number;
  _exit(0);
}

static int listen_on(int type, int port) {
  struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  int on = 1, off = 0;
  int fd = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (type == SOCK_DGRAM) setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
  if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any) < 0 || (type == SOCK_STREAM && listen(fd, 1024) < 0)) {
    perror("server");
    exit(1);
  }
  return fd;
}

static int line_for(char *line, size_t size, const struct sockaddr_in6 *peer, int port) {
  char text[INET6_ADDRSTRLEN], name[256] = "";
  if (IN6_IS_ADDR_V4MAPPED(&peer->sin6_addr))
    inet_ntop(AF_INET, &peer->sin6_addr.s6_addr[12], text, sizeof text);
  else
    inet_ntop(AF_INET6, &peer->sin6_addr, text, sizeof text);
  gethostname(name, sizeof name - 1);
  return snprintf(line, size, "%s %d %s %d\n", text, ntohs(peer->sin6_port), name, port);
}

/* In a process of its own, until the peer is gone. */
static void hold_connection(int connection, const char *line, int length) {
  struct pollfd said = {connection, POLLIN, 0};
  char words[512];
  for (int pushes = 0;;) {
    if (poll(&said, 1, pushes ? PUSH_MS : -1) > 0) {
      ssize_t size = read(connection, words, sizeof words);
      if (size <= 0) _exit(0);
      if (size >= 4 && memcmp(words, "push", 4) == 0) pushes = 1;
    }
    if (write(connection, line, length) < 0) _exit(0);
  }
}

static void answer_connection(int fd, int port, int hold) {
  struct sockaddr_in6 peer;
  socklen_t size = sizeof peer;
  char line[512];
  int connection = accept4(fd, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC);
  if (connection < 0) return;
  int length = line_for(line, sizeof line, &peer, port);
  if (hold && fork() == 0) hold_connection(connection, line, length);
  if (!hold) (void)!write(connection, line, length);
  close(connection);
}

static void answer_datagram(int fd, int port, int hold) {
  struct sockaddr_in6 peer;
  char line[512], data[65536], control[256];
  struct iovec part = {data, sizeof data};
  struct msghdr message = {&peer, sizeof peer, &part, 1, control, sizeof control, 0};
  ssize_t size = recvmsg(fd, &message, 0);
  if (size < 0) return;
  /* The packet's own IPV6_PKTINFO goes back with the answer: its address becomes the source, the interface is
     left to the routes. */
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
    if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
      ((struct in6_pktinfo *)CMSG_DATA(c))->ipi6_ifindex = 0;
  part.iov_base = line;
  part.iov_len = line_for(line, sizeof line, &peer, port);
  sendmsg(fd, &message, 0);
  if (!hold || size < 4 || memcmp(data, "push", 4) != 0 || fork() != 0) return;
  for (;;) {
    usleep(PUSH_MS * 1000);
    sendmsg(fd, &message, 0);
  }
}

int main(int count, char **arguments) {
  int used = 0;
  signal(SIGTERM, leave);
  signal(SIGINT, leave);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGCHLD, SIG_IGN);
  for (int i = 1; i < count; i++) {
    int first, last, hold = strncmp(arguments[i], "hold:", 5) == 0;
    const char *range = arguments[i] + (hold ? 5 : 0);
    if (sscanf(range, "%d-%d", &first, &last) < 2) first = last = atoi(range);
    for (int port = first; port <= last && used < 2 * MOST_PORTS; port++) {
      ports[used] = ports[used + 1] = port;
      holds[used] = holds[used + 1] = hold;
      sockets[used++] = (struct pollfd){listen_on(SOCK_STREAM, port), POLLIN, 0};
      sockets[used++] = (struct pollfd){listen_on(SOCK_DGRAM, port), POLLIN, 0};
    }
  }
  for (;;) {
    poll(sockets, used, -1);
    for (int i = 0; i < used; i++)
      if (sockets[i].revents) (i % 2 ? answer_datagram : answer_connection)(sockets[i].fd, ports[i], holds[i]);
  }
}
