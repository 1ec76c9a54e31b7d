/* Reads header parameters one by one, into the caller's memory. */
#include "gateway/http/header_params.h"

#include <string.h>

static const char *skip_blanks(const char *at)
{
    return at + strspn(at, " \t");
}

static int is_token(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static const char *read_name(const char *at, char name[PARAM_NAME_MAX])
{
    size_t len = 0;
    while (is_token(*at)) {
        if (len == PARAM_NAME_MAX - 1) return NULL;
        char c = *at++;
        name[len++] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
    }
    name[len] = '\0';
    return len ? at : NULL;
}

static const char *read_token(const char *at, char *value, size_t cap)
{
    size_t len = 0;
    while (is_token(*at)) {
        if (len + 1 >= cap) return NULL;
        value[len++] = *at++;
    }
    value[len] = '\0';
    return len ? at : NULL;
}

/* at stands behind the opening quote. */
static const char *read_quoted(const char *at, char *value, size_t cap)
{
    size_t len = 0;
    while (*at != '"') {
        if (*at == '\\' && (at[1] == '"' || at[1] == '\\')) at++;
        if (*at == '\0' || len + 1 >= cap) return NULL;
        value[len++] = *at++;
    }
    value[len] = '\0';
    return at + 1;
}

int header_param_next(const char **at, char name[PARAM_NAME_MAX], char *value, size_t cap)
{
    const char *p = skip_blanks(*at);
    if (*p == '\0') return 0;
    if (*p != ';') return -1;
    p = skip_blanks(p + 1);
    p = read_name(p, name);
    if (!p || *p != '=') return -1;
    p = p[1] == '"' ? read_quoted(p + 2, value, cap) : read_token(p + 1, value, cap);
    if (!p) return -1;
    *at = p;
    return 1;
}
