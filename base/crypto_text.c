/* Text forms of bytes (hex, base64, base62) and the CRC-32 that guards typed keys against typos. */
#include "base/crypto.h"

#include <pthread.h>
#include <string.h>

static const char hex_digits[] = "0123456789abcdef";
static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base62_digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

char *crypto_hex(char *out, const void *data, size_t len)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = hex_digits[p[i] >> 4];
        out[2 * i + 1] = hex_digits[p[i] & 15];
    }
    out[2 * len] = '\0';
    return out;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

int crypto_unhex(uint8_t *out, size_t cap, const char *text)
{
    size_t n = 0;
    for (; text[0]; text += 2) {
        int high = hex_value(text[0]), low = high < 0 ? -1 : hex_value(text[1]);
        if (low < 0 || n == cap) return -1;
        out[n++] = (uint8_t)(high << 4 | low);
    }
    return (int)n;
}

size_t crypto_base64_len(size_t len)
{
    return (len / 3 + (len % 3 != 0)) * 4;
}

char *crypto_base64(char *out, const void *data, size_t len)
{
    const uint8_t *p = data;
    char *to = out;
    for (; len >= 3; len -= 3, p += 3) {
        uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        for (int shift = 18; shift >= 0; shift -= 6) *to++ = base64_digits[v >> shift & 63];
    }
    if (len > 0) {
        uint32_t v = (uint32_t)p[0] << 16 | (len == 2 ? (uint32_t)p[1] << 8 : 0);
        *to++ = base64_digits[v >> 18 & 63];
        *to++ = base64_digits[v >> 12 & 63];
        *to++ = '=';
        if (len == 2) to[-1] = base64_digits[v >> 6 & 63];
        *to++ = '=';
    }
    *to = '\0';
    return out;
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+') return 62;
    return c == '/' ? 63 : -1;
}

long crypto_unbase64(uint8_t *out, size_t cap, const char *text, size_t text_len)
{
    if (text_len % 4 != 0) return -1;
    size_t pad = 0;
    while (pad < 2 && pad < text_len && text[text_len - 1 - pad] == '=') pad++;
    size_t bytes = text_len / 4 * 3 - pad;
    if (bytes > cap) return -1;
    size_t n = 0;
    for (size_t i = 0; i < text_len; i += 4) {
        uint32_t v = 0;
        size_t here = i + 4 == text_len ? 4 - pad : 4;
        for (size_t j = 0; j < 4; j++) {
            int digit = j < here ? base64_value(text[i + j]) : 0;
            if (digit < 0) return -1;
            v = v << 6 | (uint32_t)digit;
        }
        for (size_t j = 0; j + 1 < here; j++) out[n++] = (uint8_t)(v >> (16 - 8 * j));
        /* Bits beyond the last byte must be zero, so that one value has one text (RFC 4648, 3.5). */
        if (here < 4 && (v & (here == 3 ? 0xFFu : 0xFFFFu)) != 0) return -1;
    }
    return (long)n;
}

char *crypto_base62(char out[BASE62_256_LEN + 1], const uint8_t bits[32])
{
    uint32_t limbs[8]; /* big-endian */
    for (int i = 0; i < 8; i++)
        limbs[i] = (uint32_t)bits[4 * i] << 24 | (uint32_t)bits[4 * i + 1] << 16 |
                   (uint32_t)bits[4 * i + 2] << 8 | bits[4 * i + 3];
    for (int digit = BASE62_256_LEN - 1; digit >= 0; digit--) {
        uint64_t rest = 0;
        for (int i = 0; i < 8; i++) {
            rest = rest << 32 | limbs[i];
            limbs[i] = (uint32_t)(rest / 62);
            rest %= 62;
        }
        out[digit] = base62_digits[rest];
    }
    out[BASE62_256_LEN] = '\0';
    return out;
}

/* ---- CRC-32 (the reflected polynomial of ISO 3309, as zlib and PNG use it), eight bytes a step ---- */

static uint32_t crc_table[8][256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void crc_build(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? 0xEDB88320u ^ c >> 1 : c >> 1;
        crc_table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            crc_table[t][i] = crc_table[t - 1][i] >> 8 ^ crc_table[0][crc_table[t - 1][i] & 255];
}

uint32_t crypto_crc32(uint32_t crc, const void *data, size_t len)
{
    pthread_once(&crc_once, crc_build);
    const uint8_t *p = data;
    crc = ~crc;
    for (; len >= 8; len -= 8, p += 8) {
        uint32_t low =
            crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
        crc = crc_table[7][low & 255] ^ crc_table[6][low >> 8 & 255] ^ crc_table[5][low >> 16 & 255] ^
              crc_table[4][low >> 24] ^ crc_table[3][p[4]] ^ crc_table[2][p[5]] ^ crc_table[1][p[6]] ^
              crc_table[0][p[7]];
    }
    while (len-- > 0) crc = crc_table[0][(crc ^ *p++) & 255] ^ crc >> 8;
    return ~crc;
}
