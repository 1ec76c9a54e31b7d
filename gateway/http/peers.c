/* Counts connections per address in a small chained hash table whose entries vanish at zero. */
#include "gateway/http/peers.h"

#include <arpa/inet.h>
#include <assert.h>
#include <endian.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "base/crypto.h"
#include "base/mem.h"

enum { BUCKETS = 4096 };

struct peer {
    struct peer_key key;
    size_t connections;
    struct peer *next;
};

struct peers {
    pthread_mutex_t lock;
    size_t per_peer_max;
    uint64_t salt; /* so that nobody can aim at one bucket */
    struct peer *buckets[BUCKETS];
};

struct peers *peers_create(size_t per_peer_max)
{
    struct peers *p = mem_alloc(1, sizeof *p);
    pthread_mutex_init(&p->lock, NULL);
    p->per_peer_max = per_peer_max;
    crypto_random(&p->salt, sizeof p->salt);
    return p;
}

void peers_free(struct peers *p)
{
    if (!p) return;
    for (size_t i = 0; i < BUCKETS; i++) {
        while (p->buckets[i]) {
            struct peer *next = p->buckets[i]->next;
            mem_free(p->buckets[i]);
            p->buckets[i] = next;
        }
    }
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
}

/* The top bit tells IPv4 from IPv6 /64s, all of which (2000::/3) have it clear. */
struct peer_key peer_key_of(const struct sockaddr *address)
{
    struct peer_key key = {0};
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)(const void *)address;
        key.network = (uint64_t)1 << 63 | ntohl(in4->sin_addr.s_addr);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
        memcpy(&key.network, &in6->sin6_addr, sizeof key.network);
        key.network = be64toh(key.network) | 1; /* ::1 has a network of zero, which would not be counted */
    }
    return key;
}

static struct peer **slot_of(struct peers *p, struct peer_key key)
{
    uint64_t hash = (key.network ^ p->salt) * 0x9e3779b97f4a7c15u;
    struct peer **at = &p->buckets[hash >> 52];
    while (*at && (*at)->key.network != key.network) at = &(*at)->next;
    return at;
}

bool peers_enter(struct peers *p, struct peer_key key)
{
    if (key.network == 0) return true;
    bool entered = false;
    pthread_mutex_lock(&p->lock);
    struct peer **at = slot_of(p, key);
    if (!*at) {
        *at = mem_try_alloc(1, sizeof **at);
        if (*at) (*at)->key = key;
    }
    if (*at && (*at)->connections < p->per_peer_max) {
        (*at)->connections++;
        entered = true;
    }
    pthread_mutex_unlock(&p->lock);
    return entered;
}

void peers_leave(struct peers *p, struct peer_key key)
{
    if (key.network == 0) return;
    pthread_mutex_lock(&p->lock);
    struct peer **at = slot_of(p, key);
    assert(*at);
    if (*at && --(*at)->connections == 0) {
        struct peer *empty = *at;
        *at = empty->next;
        mem_free(empty);
    }
    pthread_mutex_unlock(&p->lock);
}

void peer_text(char *out, size_t cap, const struct sockaddr *address)
{
    char text[INET6_ADDRSTRLEN] = "unix";
    if (address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)address)->sin_addr, text, sizeof text);
    else if (address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, text,
                  sizeof text);
    snprintf(out, cap, "%s", text);
}
