/* The folders, secrets and lock of a local platform: made once, found again at every later start. */
#include "admin/launch/home.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/crypto.h"
#include "base/fs.h"
#include "base/log.h"

enum { NAME_ROOM = 64, SOCKET_NAME_ROOM = 24 };

/* The first bytes of the path's hash: two homes get two folders, the same home always the same one. */
static void sockets_outside(struct home *h)
{
    uint8_t hash[SHA256_LEN];
    crypto_sha256(hash, h->root, strlen(h->root));
    char hex[17];
    crypto_hex(hex, hash, 8);
    snprintf(h->sockets, sizeof h->sockets, "/tmp/tenor-%u-%s", (unsigned)geteuid(), hex);
}

int home_find(struct home *h, const char *path, struct err *e)
{
    *h = (struct home){.lock_fd = -1};
    if (!path || !*path) path = getenv("TENOR_HOME");
    if (!path || !*path) path = "var";
    char cwd[PATH_MAX] = "";
    if (path[0] != '/' && !getcwd(cwd, sizeof cwd)) return err_errno(e, ERR_IO, "current folder");
    int n = snprintf(h->root, sizeof h->root, "%s%s%s", cwd, cwd[0] ? "/" : "", path);
    if (n < 0 || (size_t)n + NAME_ROOM >= sizeof h->root)
        return err_set(e, ERR_INVALID, "home", "the home's path is longer than %zu bytes",
                       sizeof h->root - NAME_ROOM);
    char real[PATH_MAX];
    if (realpath(h->root, real)) {
        if (strlen(real) + NAME_ROOM >= sizeof h->root)
            return err_set(e, ERR_INVALID, "home", "the home's path is too long once links are resolved");
        strcpy(h->root, real);
    }
    _Static_assert(HOME_SOCKETS_MAX + SOCKET_NAME_ROOM > sizeof((struct sockaddr_un *)0)->sun_path,
                   "room for the longest");
    if (strlen(h->root) + sizeof "/run" + SOCKET_NAME_ROOM <= sizeof((struct sockaddr_un *)0)->sun_path)
        snprintf(h->sockets, sizeof h->sockets, "%.*s/run", HOME_SOCKETS_MAX - 5, h->root);
    else
        sockets_outside(h);
    return 0;
}

/* A folder in /tmp may have been put there by somebody else: only one that is ours and private will do. */
static int make_sockets(const struct home *h, struct err *e)
{
    if (mkdir(h->sockets, 0711) != 0 && errno != EEXIST)
        return err_errno(e, ERR_IO, "create the folder of sockets %s", h->sockets);
    struct stat st;
    if (lstat(h->sockets, &st) != 0) return err_errno(e, ERR_IO, "look at %s", h->sockets);
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
        return err_set(e, ERR_IO, NULL, "%s exists and is not this user's folder; remove it", h->sockets);
    return 0;
}

int home_create(struct home *h, struct err *e)
{
    static const char *const folders[] = {"etc", "run", "log", "blobs", "redis", "work"};
    int rc = fs_mkdir_p(h->root, 0711, e);
    if (rc) return rc;
    char real[PATH_MAX], path[PATH_MAX];
    if (!realpath(h->root, real)) return err_errno(e, ERR_IO, "open the home %s", h->root);
    if ((rc = home_find(h, real, e))) return rc;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        home_path(h, folders[i], path);
        if ((rc = fs_mkdir_p(path, strcmp(folders[i], "run") == 0 ? 0711 : 0700, e))) return rc;
    }
    return make_sockets(h, e);
}

int home_lock(struct home *h, struct err *e)
{
    char path[PATH_MAX];
    home_path(h, "run/lock", path);
    h->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (h->lock_fd < 0) return err_errno(e, ERR_IO, "open %s", path);
    if (flock(h->lock_fd, LOCK_EX | LOCK_NB) == 0) return 0;
    home_unlock(h);
    return err_set(e, ERR_CONFLICT, NULL,
                   "another `tenor up` or `tenor down` is at work on %s; wait for it to end", h->root);
}

void home_unlock(struct home *h)
{
    if (h->lock_fd >= 0) close(h->lock_fd);
    h->lock_fd = -1;
}

static void join(const char *dir, const char *name, char out[PATH_MAX])
{
    int n = snprintf(out, PATH_MAX, "%s/%s", dir, name);
    if (n < 0 || n >= PATH_MAX) {
        log_error("path too long", "folder=%s name=%s", dir, name);
        abort();
    }
}

void home_path(const struct home *h, const char *name, char out[PATH_MAX])
{
    join(h->root, name, out);
}

void home_socket(const struct home *h, const char *name, char out[PATH_MAX])
{
    join(h->sockets, name, out);
}

int home_secret(const struct home *h, const char *name, char out[HOME_SECRET_HEX_LEN], struct err *e)
{
    char path[PATH_MAX], in_etc[NAME_ROOM];
    snprintf(in_etc, sizeof in_etc, "etc/%s", name);
    home_path(h, in_etc, path);
    if (access(path, F_OK) != 0) {
        uint8_t bytes[32];
        crypto_random(bytes, sizeof bytes);
        crypto_hex(out, bytes, sizeof bytes);
        return fs_write_atomic(path, out, HOME_SECRET_HEX_LEN - 1, 0600, e);
    }
    struct buf text = {0};
    int rc = fs_read_all(&text, path, 256, e);
    while (rc == 0 && text.len && (text.data[text.len - 1] == '\n')) text.data[--text.len] = '\0';
    if (rc == 0 && text.len != HOME_SECRET_HEX_LEN - 1)
        rc = err_set(e, ERR_CORRUPT, NULL,
                     "%s should hold 64 hex digits; restore it from a backup, or remove the home", path);
    if (rc == 0) memcpy(out, text.data, HOME_SECRET_HEX_LEN);
    buf_dispose(&text);
    return rc;
}

void home_release_sockets(const struct home *h)
{
    if (strncmp(h->sockets, h->root, strlen(h->root)) != 0) fs_remove_tree(h->sockets, NULL);
}
