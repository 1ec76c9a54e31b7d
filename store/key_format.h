/* The text of an API key: tnr_live_<26 id characters>_<43 base 62 characters><6 base 62 characters of
 * CRC-32>. Needs no database: junk is refused here, before any look-up. Any thread. */
#ifndef STORE_KEY_FORMAT_H
#define STORE_KEY_FORMAT_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/crypto.h"
#include "base/err.h"
#include "base/ids.h"

enum { KEY_SECRET_LEN = 32, KEY_SECRET_TEXT_LEN = 49, KEY_TEXT_MAX = 96 };

/* key_id: "key_…". Writes the text that is shown once. */
void key_format(char out[KEY_TEXT_MAX], const char *key_id, const uint8_t secret[KEY_SECRET_LEN]);

/* Where the parts of a key's text stand. */
struct key_parts {
    char id[ID_MAX];    /* "key_…", its characters unchecked */
    const char *secret; /* secret and CRC as written: KEY_SECRET_TEXT_LEN bytes; borrowed from the text */
};

/* Cuts len bytes into parts and checks no digit of them: enough to compare with a key that key_parse has
 * taken before. False for what cannot be a key. */
bool key_split(struct key_parts *out, const char *text, size_t len);

/* Reads len bytes. ERR_UNAUTHORIZED for anything that key_format cannot have written. Copies into the
 * caller's storage. */
int key_parse(char key_id[ID_MAX], uint8_t secret[KEY_SECRET_LEN], const char *text, size_t len,
              struct err *e);

#endif
