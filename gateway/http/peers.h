/* How many connections each address holds, over all loops: IPv4 addresses singly, IPv6 by their /64 (one
 * subscriber's network), unix sockets not at all. Any thread; one lock, taken when a connection comes and
 * when it goes. */
#ifndef GATEWAY_HTTP_PEERS_H
#define GATEWAY_HTTP_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct peers;

struct peer_key {
    uint64_t network; /* 0: not counted */
};

struct peers *peers_create(size_t per_peer_max); /* dies without memory */
void peers_free(struct peers *p);

struct peer_key peer_key_of(const struct sockaddr *address);
bool peers_enter(struct peers *p,
                 struct peer_key key); /* false when that address is at its cap, or memory is out */
void peers_leave(struct peers *p, struct peer_key key); /* for each true peers_enter */

/* "192.0.2.7", "2001:db8::1" or "unix". */
void peer_text(char *out, size_t cap, const struct sockaddr *address);

#endif
