/* Reads, writes, makes and removes files and folders with plain system calls. */
#include "base/fs.h"
#include "base/crypto.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_STEP = 64 * 1024, TREE_DEPTH_MAX = 128 };

int fs_read_fd(struct buf *out, int fd, size_t max_bytes, struct err *e)
{
    size_t total = 0;
    for (;;) {
        /* One byte more than allowed is asked for, so that "exactly full" and "too large" can be told apart.
         */
        size_t want = max_bytes - total < READ_STEP ? max_bytes - total + 1 : READ_STEP;
        char *to = buf_reserve(out, want);
        if (!to) return err_set(e, ERR_NOMEM, NULL, "no memory for a file of more than %zu bytes", total);
        ssize_t n = read(fd, to, want);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_errno(e, ERR_IO, "read");
        if (n == 0) break;
        if ((size_t)n > max_bytes - total)
            return err_set(e, ERR_TOO_LARGE, NULL, "holds more than the %zu bytes allowed here", max_bytes);
        total += (size_t)n;
        out->len += (size_t)n;
    }
    out->data[out->len] = '\0';
    return 0;
}

int fs_read_all(struct buf *out, const char *path, size_t max_bytes, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "open %s", path);
    int rc = fs_read_fd(out, fd, max_bytes, e);
    if (rc) err_prefix(e, "%s", path);
    close(fd);
    return rc;
}

int fs_write_all(int fd, const void *data, size_t len, struct err *e)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_errno(e, ERR_IO, "write of %zu bytes", len);
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

/* "/a/b" gives "/a", "b" gives ".", "/b" gives "/". */
static int parent_of(char out[PATH_MAX], const char *path, struct err *e)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= PATH_MAX) return err_set(e, ERR_INVALID, NULL, "path of %zu bytes is too long", n);
    if (slash && n == 0) n = 1;
    memcpy(out, path, n);
    out[n] = '\0';
    if (!slash) memcpy(out, ".", 2);
    return 0;
}

int fs_sync_dir(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return err_errno(e, ERR_IO, "open %s", path);
    int rc = fsync(fd) == 0 ? 0 : err_errno(e, ERR_IO, "fsync %s", path);
    close(fd);
    return rc;
}

static int write_synced(const char *path, const void *data, size_t len, mode_t mode, struct err *e)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return err_errno(e, ERR_IO, "create %s", path);
    int rc = fs_write_all(fd, data, len, e);
    if (rc) err_prefix(e, "%s", path);
    if (!rc && fchmod(fd, mode) != 0)
        rc = err_errno(e, ERR_IO, "chmod %s", path); /* open's mode obeys the umask */
    if (!rc && fsync(fd) != 0) rc = err_errno(e, ERR_IO, "fsync %s", path);
    if (close(fd) != 0 && !rc) rc = err_errno(e, ERR_IO, "close %s", path);
    if (rc) unlink(path);
    return rc;
}

int fs_write_atomic(const char *path, const void *data, size_t len, mode_t mode, struct err *e)
{
    char folder[PATH_MAX], temporary[PATH_MAX], tag[17];
    uint8_t random[8];
    int rc = parent_of(folder, path, e);
    if (rc) return rc;
    crypto_random(random, sizeof random);
    int n = snprintf(temporary, sizeof temporary, "%s.%s.tmp", path, crypto_hex(tag, random, sizeof random));
    if (n < 0 || (size_t)n >= sizeof temporary)
        return err_set(e, ERR_INVALID, NULL, "path is too long: %s", path);
    rc = write_synced(temporary, data, len, mode, e);
    if (rc) return rc;
    if (rename(temporary, path) != 0) {
        rc = err_errno(e, ERR_IO, "rename %s to %s", temporary, path);
        unlink(temporary);
        return rc;
    }
    return fs_sync_dir(folder, e);
}

int fs_mkdir_p(const char *path, mode_t mode, struct err *e)
{
    char part[PATH_MAX];
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof part)
        return err_set(e, ERR_INVALID, NULL, "a folder's path has 1 to %d bytes, not %zu", PATH_MAX - 1, len);
    memcpy(part, path, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (part[i] != '/' && part[i] != '\0') continue;
        char was = part[i];
        part[i] = '\0';
        if (mkdir(part, mode) != 0 && errno != EEXIST) return err_errno(e, ERR_IO, "make folder %s", part);
        part[i] = was;
    }
    struct stat st;
    if (stat(path, &st) != 0) return err_errno(e, ERR_IO, "look at %s", path);
    if (!S_ISDIR(st.st_mode)) return err_set(e, ERR_CONFLICT, NULL, "%s exists and is not a folder", path);
    return 0;
}

static int remove_entry(int parent, const char *name, int depth, struct err *e);

/* Empties the folder behind fd, which it closes. */
static int empty_dir(int fd, const char *name, int depth, struct err *e)
{
    DIR *d = fdopendir(fd);
    if (!d) {
        int rc = err_errno(e, ERR_IO, "read folder %s", name);
        close(fd);
        return rc;
    }
    int rc = 0;
    const struct dirent *entry;
    while (!rc && (errno = 0, entry = readdir(d)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        rc = remove_entry(dirfd(d), entry->d_name, depth + 1, e);
    }
    if (!rc && errno) rc = err_errno(e, ERR_IO, "read folder %s", name);
    closedir(d);
    return rc;
}

static int remove_entry(int parent, const char *name, int depth, struct err *e)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) return 0;
    if (errno != EISDIR && errno != EPERM) return err_errno(e, ERR_IO, "remove %s", name);
    if (depth > TREE_DEPTH_MAX) /* each level holds a descriptor */
        return err_set(e, ERR_TOO_LARGE, NULL, "remove %s: more than %d folders deep", name, TREE_DEPTH_MAX);
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? 0 : err_errno(e, ERR_IO, "open folder %s", name);
    int rc = empty_dir(fd, name, depth, e);
    if (rc) return rc;
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return 0;
    return err_errno(e, ERR_IO, "remove folder %s", name);
}

int fs_remove_tree(const char *path, struct err *e)
{
    int rc = remove_entry(AT_FDCWD, path, 0, e);
    if (rc) err_prefix(e, "%s", path);
    return rc;
}

int fs_cloexec_pipe(int fds[2], struct err *e)
{
    return pipe2(fds, O_CLOEXEC) == 0 ? 0 : err_errno(e, ERR_IO, "pipe");
}
