/* Here an API key's text is written and read: id, 256 bits in base 62, CRC. */
#include "store/key_format.h"

#include <assert.h>
#include <string.h>

static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
static const char head[] = "tnr_live_";

enum {
    HEAD_LEN = 9,
    ID_CHARS = 26,
    SECRET_CHARS = 43,
    CRC_CHARS = 6,
    BODY_LEN = HEAD_LEN + ID_CHARS + 1 + SECRET_CHARS
};
_Static_assert(SECRET_CHARS + CRC_CHARS == (int)KEY_SECRET_TEXT_LEN, "the header says how long they are");

/* Long division of the big-endian number in n by 62; returns the remainder. */
static unsigned divide(uint8_t n[KEY_SECRET_LEN])
{
    unsigned rest = 0;
    for (int i = 0; i < KEY_SECRET_LEN; i++) {
        unsigned v = rest << 8 | n[i];
        n[i] = (uint8_t)(v / 62);
        rest = v % 62;
    }
    return rest;
}

static void base62_secret(char out[SECRET_CHARS], const uint8_t secret[KEY_SECRET_LEN])
{
    uint8_t n[KEY_SECRET_LEN];
    memcpy(n, secret, sizeof n);
    for (int i = SECRET_CHARS - 1; i >= 0; i--) out[i] = digits[divide(n)];
    explicit_bzero(n, sizeof n);
}

/* '0' → 0 …; -1 for a character that is no digit. Arithmetic only: a table look-up would tell the secret to
 * the cache. */
static int digit_of(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
    if (c >= 'a' && c <= 'z') return c - 'a' + 36;
    return -1;
}

/* n = n·factor + digits, n in four limbs, the least first; false when it would not fit 256 bits. */
static bool shift_in(uint64_t n[4], uint64_t factor, uint64_t chunk)
{
    uint64_t carry = chunk;
    for (int i = 0; i < 4; i++) {
        unsigned __int128 v = (unsigned __int128)n[i] * factor + carry;
        n[i] = (uint64_t)v;
        carry = (uint64_t)(v >> 64);
    }
    return carry == 0;
}

/* Ten digits at a time: 62¹⁰ fits 64 bits. False for a stray character or more than 256 bits. */
static bool unbase62_secret(uint8_t out[KEY_SECRET_LEN], const char *text)
{
    uint64_t n[4] = {0};
    bool fits = true;
    for (int i = 0; i < SECRET_CHARS && fits;) {
        uint64_t chunk = 0, factor = 1;
        int end = i == 0 ? SECRET_CHARS % 10 : i + 10;
        for (; i < end && fits; i++) {
            int d = digit_of(text[i]);
            fits = d >= 0;
            chunk = chunk * 62 + (uint64_t)d;
            factor *= 62;
        }
        fits = fits && shift_in(n, factor, chunk);
    }
    for (int i = 0; i < KEY_SECRET_LEN; i++) out[i] = (uint8_t)(n[3 - i / 8] >> (56 - i % 8 * 8));
    explicit_bzero(n, sizeof n);
    return fits;
}

static void base62_crc(char out[CRC_CHARS], uint32_t crc)
{
    for (int i = CRC_CHARS - 1; i >= 0; i--) {
        out[i] = digits[crc % 62];
        crc /= 62;
    }
}

void key_format(char out[KEY_TEXT_MAX], const char *key_id, const uint8_t secret[KEY_SECRET_LEN])
{
    assert(id_valid(key_id, "key_"));
    memcpy(out, head, HEAD_LEN);
    memcpy(out + HEAD_LEN, key_id + 4, ID_CHARS);
    out[HEAD_LEN + ID_CHARS] = '_';
    base62_secret(out + HEAD_LEN + ID_CHARS + 1, secret);
    base62_crc(out + BODY_LEN, crypto_crc32(0, out, BODY_LEN));
    out[BODY_LEN + CRC_CHARS] = '\0';
}

bool key_split(struct key_parts *out, const char *text, size_t len)
{
    static const char prefix[] = "key_";
    if (len != BODY_LEN + CRC_CHARS || memcmp(text, head, HEAD_LEN) != 0 || text[HEAD_LEN + ID_CHARS] != '_')
        return false;
    memcpy(out->id, prefix, sizeof prefix - 1);
    memcpy(out->id + sizeof prefix - 1, text + HEAD_LEN, ID_CHARS);
    out->id[sizeof prefix - 1 + ID_CHARS] = '\0';
    out->secret = text + HEAD_LEN + ID_CHARS + 1;
    return true;
}

int key_parse(char key_id[ID_MAX], uint8_t secret[KEY_SECRET_LEN], const char *text, size_t len,
              struct err *e)
{
    struct key_parts parts;
    char crc[CRC_CHARS];
    if (!key_split(&parts, text, len)) goto junk;
    base62_crc(crc, crypto_crc32(0, text, BODY_LEN));
    if (memcmp(crc, text + BODY_LEN, CRC_CHARS) != 0) goto junk;
    if (!id_valid(parts.id, "key_") || !unbase62_secret(secret, parts.secret)) goto junk;
    memcpy(key_id, parts.id, sizeof "key_" + ID_CHARS);
    return 0;
junk:
    return err_set(e, ERR_UNAUTHORIZED, NULL,
                   "this is not an API key; one looks like tnr_live_…, %d characters", BODY_LEN + CRC_CHARS);
}
