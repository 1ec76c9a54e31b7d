/* Reads the preferences that we know out of a Prefer header. */
#include "gateway/routes/prefer.h"

#include <string.h>
#include <strings.h>
#include "base/num.h"

enum { WAIT_MAX_S = 86400, WAIT_TEXT_MAX = 16 };

static bool is_named(const char *p, size_t len, const char *name)
{
    return len == strlen(name) && strncasecmp(p, name, len) == 0;
}

/* wait=N, its value as it stands or in quotes. */
static int64_t wait_of(const char *p, size_t len)
{
    char text[WAIT_TEXT_MAX];
    int64_t seconds;
    if (len >= 2 && p[0] == '"' && p[len - 1] == '"') {
        p++;
        len -= 2;
    }
    if (len == 0 || len >= sizeof(text)) return 0;
    memcpy(text, p, len);
    text[len] = '\0';
    return num_parse_i64(text, 1, WAIT_MAX_S, &seconds) ? seconds : 0;
}

void prefer_add(struct prefer *p, const char *text)
{
    while (*text != '\0') {
        const char *name = text + strspn(text, " \t,");
        size_t len = strcspn(name, ",;"), name_len = strcspn(name, ",;= \t");
        while (len > 0 && (name[len - 1] == ' ' || name[len - 1] == '\t')) len--;
        if (is_named(name, len, "respond-async")) p->respond_async = true;
        if (is_named(name, name_len, "wait") && name[name_len] == '=' && p->wait_s == 0)
            p->wait_s = wait_of(name + name_len + 1, len - name_len - 1);
        text = name + strcspn(name, ","); /* parameters of a preference say nothing to us */
    }
}
