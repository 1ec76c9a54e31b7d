/* Verified API keys, remembered for seconds, shared by all loops; and refused ones, for a second.
 *
 *   key_split ─▶ mac of the secret's text ─▶ find ─┬▶ HIT: the principal
 *                                                  ├▶ REFUSED: 401
 *                                                  └▶ MISS: ask Postgres, then add or refuse
 *
 * The secret itself is never kept: an entry holds HMAC-SHA256 of its text, CRC included, under a random key
 * of this process; with the id that makes the whole text, so a hit needs no reading of it. A change of a key
 * or a tenant drops its entries at once (tnr:changed, and directly by the handler that made it), and raises
 * the epoch, so that an answer which left Postgres before the change is used by those who wait for it but not
 * remembered. Any thread: each stripe has a lock, held for a few comparisons. */
#ifndef GATEWAY_KEY_CACHE_H
#define GATEWAY_KEY_CACHE_H

#include <stddef.h>
#include <stdint.h>
#include "base/crypto.h"
#include "gateway/principal.h"

struct key_cache;

enum { KEY_CACHE_LIFE_MS = 5000, KEY_CACHE_REFUSED_MS = 1000 };

/* now_ms is the clock to judge ages by (clock_mono_ms in the gateway, a fake one in tests). Dies when memory
 * is out. */
struct key_cache *key_cache_create(int64_t (*now_ms)(void));
void key_cache_free(struct key_cache *c);

enum key_cache_result { KEY_CACHE_MISS, KEY_CACHE_HIT, KEY_CACHE_REFUSED };

/* The mac of a secret's text in this process. */
void key_cache_mac(const struct key_cache *c, uint8_t mac[SHA256_LEN], const void *secret, size_t len);

/* HIT: *out is a reference of the caller's (principal_release). REFUSED: the key is remembered as bad, or its
 * id is remembered with another secret. Comparisons take the same time whatever differs. */
enum key_cache_result key_cache_find(struct key_cache *c, const char *key_id, const uint8_t mac[SHA256_LEN],
                                     struct principal **out);

/* To be read before a look-up starts and handed back with its answer. */
uint64_t key_cache_epoch(const struct key_cache *c);

/* Remembers p (takes a reference of its own) unless something was dropped since epoch. */
void key_cache_add(struct key_cache *c, const uint8_t mac[SHA256_LEN], struct principal *p, uint64_t epoch);
void key_cache_refuse(struct key_cache *c, const uint8_t mac[SHA256_LEN]);

void key_cache_drop_key(struct key_cache *c, const char *key_id);
void key_cache_drop_tenant(struct key_cache *c, const char *tenant_id);
void key_cache_drop_all(struct key_cache *c);

#endif
