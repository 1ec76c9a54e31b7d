/* Makes sortable ids from the wall clock and kernel randomness, and checks the shape of ids and names. */
#include "base/ids.h"
#include "base/clock.h"
#include "base/crypto.h"

#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";

enum { TAIL_LEN = 26, PREFIX_MAX = ID_MAX - 1 - TAIL_LEN, NAME_LEN_MAX = 64 };

/* 128 bits: 48 of milliseconds above 80 of randomness. */
struct stamp {
    uint64_t high; /* milliseconds << 16 | top 16 random bits */
    uint64_t low;
};

static pthread_mutex_t last_lock = PTHREAD_MUTEX_INITIALIZER;
static struct stamp last; /* the newest one handed out, under last_lock */

/* A stamp above every earlier one of this process: fresh randomness in a new millisecond, else the last plus
 * one, which also holds while the wall clock steps back. */
static struct stamp next_stamp(void)
{
    uint64_t now_ms = (uint64_t)(clock_wall_us() / 1000) & 0xFFFFFFFFFFFF;
    pthread_mutex_lock(&last_lock);
    if (now_ms > last.high >> 16) {
        uint8_t r[10];
        crypto_random(r, sizeof r);
        last.high = now_ms << 16 | (uint64_t)r[8] << 8 | r[9];
        memcpy(&last.low, r, 8);
    } else {
        last.low++;
        if (last.low == 0) last.high++;
    }
    struct stamp s = last;
    pthread_mutex_unlock(&last_lock);
    return s;
}

void id_new(char out[ID_MAX], const char *prefix)
{
    size_t n = strlen(prefix);
    assert(n > 0 && n + (prefix[n - 1] != '_') <= PREFIX_MAX);
    char *tail = stpcpy(out, prefix);
    if (prefix[n - 1] != '_') *tail++ = '_';
    struct stamp s = next_stamp();
    for (int i = TAIL_LEN - 1; i >= 0; i--) {
        tail[i] = alphabet[s.low & 31];
        s.low = s.low >> 5 | s.high << 59;
        s.high >>= 5;
    }
    tail[TAIL_LEN] = '\0';
}

bool id_valid(const char *s, const char *prefix)
{
    size_t n = strlen(prefix);
    if (!s || n == 0 || strncmp(s, prefix, n) != 0) return false;
    s += n;
    if (prefix[n - 1] != '_' && *s++ != '_') return false;
    if (strnlen(s, TAIL_LEN + 1) != TAIL_LEN || s[0] > '7') return false;
    return strspn(s, alphabet) == TAIL_LEN;
}

bool id_name_valid(const char *s)
{
    static const bool allowed[256] = {
        ['a' ... 'z'] = true, ['0' ... '9'] = true, ['.'] = true, ['_'] = true, ['-'] = true};
    if (!s || *s == '.' || *s == '_' || *s == '-') return false;
    size_t n = 0;
    while (n <= NAME_LEN_MAX && allowed[(unsigned char)s[n]]) n++;
    return n > 0 && n <= NAME_LEN_MAX && s[n] == '\0';
}
