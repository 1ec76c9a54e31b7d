/* Files: whole reads, atomic writes, directories. Blocking: never on an event loop. */
#ifndef BASE_FS_H
#define BASE_FS_H

#include <stddef.h>
#include <sys/types.h>
#include "base/err.h"
#include "base/buf.h"

int fs_read_all(struct buf *out, const char *path, size_t max_bytes, struct err *e); /* appends */
int fs_read_fd(struct buf *out, int fd, size_t max_bytes, struct err *e); /* appends, to end of file */
int fs_write_all(int fd, const void *data, size_t len, struct err *e);    /* retries EINTR and short writes */
/* Temporary name in the same folder, fsync, rename, fsync of the folder. */
int fs_write_atomic(const char *path, const void *data, size_t len, mode_t mode, struct err *e);
int fs_mkdir_p(const char *path, mode_t mode, struct err *e);
int fs_remove_tree(const char *path, struct err *e); /* does not follow links; a missing path is success */
int fs_sync_dir(const char *path, struct err *e);
int fs_cloexec_pipe(int fds[2], struct err *e);

#endif
