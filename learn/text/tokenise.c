/* Walks a text code point by code point and puts tokens together. */
#include "learn/text/tokenise.h"

#include <string.h>

#include "learn/data/utf8.h"

/* What a code point does to words. */
enum role { ROLE_NOTHING, ROLE_LETTER, ROLE_APOSTROPHE, ROLE_ALONE, ROLE_BLANK, ROLE_PUNCTUATION };

enum { APOSTROPHE = 0x2019 /* ’ */, NO_CHARACTER = 0 };

/* Where the role changes: each line holds up to the next one. Blocks of the Unicode standard; within the
 * blocks of letters, only the punctuation that is common in running text. */
static const struct {
    uint32_t from;
    enum role role;
} ranges[] = {{0x80, ROLE_BLANK},         {0xA1, ROLE_PUNCTUATION},   {0xAA, ROLE_LETTER},
              {0xAB, ROLE_PUNCTUATION},   {0xB5, ROLE_LETTER},        {0xB6, ROLE_PUNCTUATION},
              {0xBA, ROLE_LETTER},        {0xBB, ROLE_PUNCTUATION},   {0xC0, ROLE_LETTER},
              {0xD7, ROLE_PUNCTUATION},   {0xD8, ROLE_LETTER},        {0xF7, ROLE_PUNCTUATION},
              {0xF8, ROLE_LETTER},        {0x37E, ROLE_PUNCTUATION},  {0x37F, ROLE_LETTER},
              {0x589, ROLE_PUNCTUATION},  {0x58B, ROLE_LETTER},       {0x60C, ROLE_PUNCTUATION},
              {0x60E, ROLE_LETTER},       {0x61B, ROLE_PUNCTUATION},  {0x620, ROLE_LETTER},
              {0x66A, ROLE_PUNCTUATION},  {0x66E, ROLE_LETTER},       {0x6D4, ROLE_PUNCTUATION},
              {0x6D5, ROLE_LETTER},       {0x964, ROLE_PUNCTUATION},  {0x966, ROLE_LETTER},
              {0x2000, ROLE_BLANK},       {0x200C, ROLE_LETTER},      {0x200E, ROLE_BLANK},
              {0x2010, ROLE_PUNCTUATION}, {0x2028, ROLE_BLANK},       {0x2030, ROLE_PUNCTUATION},
              {0x205F, ROLE_BLANK},       {0x2070, ROLE_PUNCTUATION}, {0x20D0, ROLE_LETTER},
              {0x2190, ROLE_PUNCTUATION}, {0x2600, ROLE_ALONE},       {0x27C0, ROLE_PUNCTUATION},
              {0x2C00, ROLE_LETTER},      {0x2E00, ROLE_PUNCTUATION}, {0x2E80, ROLE_ALONE},
              {0x3000, ROLE_BLANK},       {0x3001, ROLE_PUNCTUATION}, {0x3005, ROLE_ALONE},
              {0x3008, ROLE_PUNCTUATION}, {0x3040, ROLE_LETTER},      {0x3200, ROLE_ALONE},
              {0xA000, ROLE_LETTER},      {0xF900, ROLE_ALONE},       {0xFB00, ROLE_LETTER},
              {0xFE00, ROLE_BLANK},       {0xFE10, ROLE_PUNCTUATION}, {0xFE20, ROLE_LETTER},
              {0xFE30, ROLE_PUNCTUATION}, {0xFE70, ROLE_LETTER},      {0xFEFF, ROLE_BLANK},
              {0xFF00, ROLE_PUNCTUATION}, {0xFF10, ROLE_LETTER},      {0xFF1A, ROLE_PUNCTUATION},
              {0xFF21, ROLE_LETTER},      {0xFF3B, ROLE_PUNCTUATION}, {0xFF41, ROLE_LETTER},
              {0xFF5B, ROLE_PUNCTUATION}, {0xFF66, ROLE_LETTER},      {0xFFF0, ROLE_PUNCTUATION},
              {0x10000, ROLE_LETTER},     {0x1F000, ROLE_ALONE}};

enum { RANGES = sizeof ranges / sizeof ranges[0] };

static enum role role_of_wide(uint32_t c)
{
    size_t lo = 0, hi = RANGES;
    if (c == APOSTROPHE) return ROLE_APOSTROPHE;
    while (hi - lo > 1) {
        size_t mid = (lo + hi) / 2;
        if (ranges[mid].from <= c)
            lo = mid;
        else
            hi = mid;
    }
    return ranges[lo].role;
}

static bool is_ascii_letter(uint32_t c)
{
    return (c | 32) - 'a' < 26 || c - '0' < 10 || c == '_';
}

static enum role role_of(uint32_t c)
{
    if (c >= 0x80) return role_of_wide(c);
    if (is_ascii_letter(c)) return ROLE_LETTER;
    if (c == NO_CHARACTER) return ROLE_NOTHING;
    if (c == '\'') return ROLE_APOSTROPHE;
    return c <= ' ' || c == 0x7F ? ROLE_BLANK : ROLE_PUNCTUATION;
}

/* The small letter of a capital. Capitals and small letters of these blocks take two bytes each, so that a
 * token's length does not change. */
static uint32_t small(uint32_t c)
{
    if (c < 0x80) return c - 'A' < 26 ? c | 32 : c;
    if (c < 0xC0 || c > 0x42F) return c;
    if (c <= 0xDE) return c == 0xD7 ? c : c + 0x20;
    if (c < 0x100) return c;
    if (c < 0x180) {
        if (c == 0x178) return 0xFF;
        if (c == 0x130 || c == 0x131 || c == 0x138 || c == 0x149 || c == 0x17F) return c;
        bool odd_capitals = (c > 0x138 && c < 0x149) || c > 0x178;
        return (c & 1) == odd_capitals ? c + 1 : c;
    }
    if (c >= 0x391 && c <= 0x3A9) return c == 0x3A2 ? c : c + 0x20;
    if (c == 0x386) return 0x3AC;
    if (c >= 0x388 && c <= 0x38A) return c + 37;
    if (c == 0x38C) return 0x3CC;
    if (c == 0x38E || c == 0x38F) return c + 63;
    if (c >= 0x410) return c + 0x20;
    return c >= 0x400 ? c + 0x50 : c;
}

/* The code point at p (before r->end) and its bytes; NO_CHARACTER for a byte that begins none. */
static uint32_t decode(const struct token_reader *r, const unsigned char *p, size_t *bytes)
{
    *bytes = 1;
    if (p[0] < 0x80) return p[0];
    size_t n = utf8_sequence((const char *)p, (size_t)(r->end - p));
    if (n == 0) return NO_CHARACTER;
    *bytes = n;
    uint32_t c = p[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) c = c << 6 | (p[i] & 0x3F);
    return c;
}

/* Appends the code point c, whose bytes stand at p; false when the token is full. */
static bool put(struct token_reader *r, uint32_t c, const unsigned char *p, size_t bytes)
{
    if (r->len + bytes > TEXT_MAX_TOKEN) return false;
    if (r->how.lower) {
        c = small(c);
        if (bytes == 1) {
            r->token[r->len++] = (char)c;
            return true;
        }
        if (bytes == 2) {
            r->token[r->len++] = (char)(0xC0 | c >> 6);
            r->token[r->len++] = (char)(0x80 | (c & 0x3F));
            return true;
        }
    }
    memcpy(r->token + r->len, p, bytes);
    r->len += bytes;
    return true;
}

void token_reader_init(struct token_reader *r, const struct tokenise *how, const char *text, size_t len)
{
    r->how = *how;
    r->p = (const unsigned char *)text;
    r->end = r->p + len;
    r->len = 0;
}

/* Whether what stands at p, behind an apostrophe, goes on with the word. */
static bool goes_on(const struct token_reader *r, const unsigned char *p)
{
    size_t bytes;
    return p < r->end && role_of(decode(r, p, &bytes)) == ROLE_LETTER;
}

/* As read_word does it for ASCII letters, which most are. False when the token is full. */
static bool read_ascii(struct token_reader *r)
{
    const unsigned char *p = r->p;
    size_t len = r->len;
    unsigned char capital = r->how.lower ? 32 : 0;
    bool room = true;
    for (; p < r->end && is_ascii_letter(*p); p++) {
        room = room && len < TEXT_MAX_TOKEN;
        if (room) r->token[len++] = (char)((uint32_t)*p - 'A' < 26 ? *p | capital : *p);
    }
    r->p = p;
    r->len = len;
    return room;
}

/* The rest of a word, from its first letter on. */
static void read_word(struct token_reader *r)
{
    static const unsigned char ascii[] = "'";
    bool room = read_ascii(r);
    while (r->p < r->end) {
        size_t bytes;
        uint32_t c = decode(r, r->p, &bytes);
        enum role role = role_of(c);
        if (role == ROLE_LETTER)
            room = room && put(r, c, r->p, bytes);
        else if (role == ROLE_APOSTROPHE && goes_on(r, r->p + bytes))
            room = room && put(r, '\'', ascii, 1);
        else
            break;
        r->p += bytes;
    }
    while (r->token[r->len - 1] == '\'') r->len--; /* what it joined did not fit */
}

static bool next_word(struct token_reader *r)
{
    while (r->p < r->end) {
        size_t bytes;
        uint32_t c = decode(r, r->p, &bytes);
        enum role role = role_of(c);
        if (role == ROLE_LETTER) {
            read_word(r);
            return true;
        }
        bool counts = role == ROLE_ALONE ||
                      (r->how.punctuation && (role == ROLE_PUNCTUATION || role == ROLE_APOSTROPHE));
        if (counts) put(r, c, r->p, bytes);
        r->p += bytes;
        if (counts) return true;
    }
    return false;
}

static bool next_character(struct token_reader *r)
{
    while (r->p < r->end) {
        size_t bytes;
        uint32_t c = decode(r, r->p, &bytes);
        if (c != NO_CHARACTER) put(r, c, r->p, bytes);
        r->p += bytes;
        if (r->len) return true;
    }
    return false;
}

bool token_reader_next(struct token_reader *r)
{
    r->len = 0;
    return r->how.mode == TEXT_CHARACTER ? next_character(r) : next_word(r);
}
