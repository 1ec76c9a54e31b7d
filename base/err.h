/* What went wrong, for a program (code) and for a person (message, field).
 *
 * Every fallible function returns 0 or a negative ERR_*, and describes the failure in the caller's struct
 * err. The struct is plain data: it travels with the work from thread to thread. Any function accepts NULL
 * for it. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

enum err_code {
    ERR_OK = 0,
    ERR_NOMEM = -1,        /* allocation refused or over a memory limit */
    ERR_INVALID = -2,      /* the caller's input is wrong; `field` names the part */
    ERR_NOT_FOUND = -3,    /* no such thing (or it belongs to another tenant) */
    ERR_CONFLICT = -4,     /* exists already, or its state forbids the request */
    ERR_UNAUTHORIZED = -5, /* who are you: key missing, malformed, unknown, revoked or expired */
    ERR_FORBIDDEN = -6,    /* known, but lacks the scope */
    ERR_LIMIT = -7,        /* the tenant's quota or rate; see retry_after_ms */
    ERR_OVERLOAD = -8,     /* the platform is full; see retry_after_ms */
    ERR_TOO_LARGE = -9,    /* over a size limit */
    ERR_TIMEOUT = -10,     /* a deadline passed */
    ERR_IO = -11,          /* file or socket failure */
    ERR_UNAVAILABLE = -12, /* Postgres, Redis or a worker cannot be reached now */
    ERR_CANCELLED = -13,   /* somebody asked for it to stop */
    ERR_CORRUPT = -14,     /* stored bytes fail their check */
    ERR_STALE = -15,       /* an older fence: somebody else owns the work now */
    ERR_UNSUPPORTED = -16, /* valid, but not offered */
    ERR_INTERNAL = -17,    /* our bug */
};

struct err {
    int code;           /* 0 or ERR_* */
    int retry_after_ms; /* with ERR_LIMIT and ERR_OVERLOAD: when trying again makes sense; else 0 */
    char field[96];     /* dotted path of the offending input ("spec.architecture.layers[2].units"), or "" */
    char message[416];  /* one sentence: what was wrong, where, what was expected */
};

/* Fills e (NULL is fine) and returns code, so that `return err_set(e, ERR_INVALID, "name", "...")` reads in
 * one line: (struct err *e, int code, const char *field, const char *fmt, ...). field may be NULL. Both texts
 * are truncated to fit, at a UTF-8 boundary. A macro, so that a compiler or analyser sees which code comes
 * back. */
#define err_set(e, code, ...) (err_fill((e), (code), __VA_ARGS__), err_same(code))

/* As err_set, without a field, with errno's text appended: "open /x: No such file or directory". */
#define err_errno(e, code, ...) (err_fill_errno((e), (code), __VA_ARGS__), err_same(code))

void err_fill(struct err *e, int code, const char *field, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void err_fill_errno(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static inline int err_same(int code)
{
    return code;
}

/* Puts "<text>: " before the message that is there and keeps the code; returns the code. */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts path before the field that is there ("units" under "layers[2]" gives "layers[2].units"); returns the
 * code. */
int err_under(struct err *e, const char *path);

void err_clear(struct err *e);

/* "invalid", "not_found", …: the name of a code for logs and for the wire. Never NULL. */
const char *err_name(int code);

/* The code of such a name, or ERR_INTERNAL. */
int err_code_of(const char *name);

#endif
