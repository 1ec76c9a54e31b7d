/* Checks UTF-8 one sequence at a time against the ranges that RFC 3629 lists. */
#include "gateway/http/utf8.h"

#include <stdint.h>
#include <string.h>

/* Length of the well-formed sequence at s, or 0. */
static size_t sequence(const unsigned char *s, size_t len)
{
    if (s[0] < 0x80) return 1;
    size_t n = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
               : s[0] >= 0xe0 && s[0] <= 0xef ? 3
               : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                              : 0;
    if (n == 0 || n > len) return 0;
    unsigned char low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i < n; i++) {
        if (s[i] < 0x80 || s[i] > 0xbf) return 0;
    }
    return n;
}

bool utf8_valid(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    while (len > 0) {
        uint64_t eight;
        if (len >= sizeof eight &&
            (memcpy(&eight, s, sizeof eight), (eight & 0x8080808080808080) == 0)) { /* ASCII */
            s += sizeof eight;
            len -= sizeof eight;
            continue;
        }
        size_t n = sequence(s, len);
        if (n == 0) return false;
        s += n;
        len -= n;
    }
    return true;
}
