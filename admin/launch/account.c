/* Changes from root to an unprivileged user, keeping at most the capability to walk through folders. */
#include "admin/launch/account.h"

#include <errno.h>
#include <fts.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *account_for_servers(void)
{
    if (geteuid() != 0) return NULL;
    return getpwnam("postgres") ? "postgres" : "nobody";
}

int account_own(const char *user, const char *path, struct err *e)
{
    if (!user) return 0;
    const struct passwd *pw = getpwnam(user);
    if (!pw) return err_set(e, ERR_NOT_FOUND, NULL, "there is no user '%s' to run Postgres as", user);
    char *paths[] = {(char *)(size_t)path, NULL};
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (!tree) return err_errno(e, ERR_IO, "read %s", path);
    int rc = 0;
    for (FTSENT *f; rc == 0 && (f = fts_read(tree));) {
        if (f->fts_info == FTS_DP) continue;
        if (lchown(f->fts_accpath, pw->pw_uid, pw->pw_gid) != 0)
            rc = err_errno(e, ERR_IO, "give %s to user %s", f->fts_path, user);
    }
    fts_close(tree);
    return rc;
}

/* Whether every folder above and including path lets that user pass. */
static bool can_enter(const char *path, uid_t uid, gid_t gid)
{
    char part[4096];
    size_t len = strlen(path);
    if (len >= sizeof part) return false;
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        struct stat st;
        if (stat(part, &st) != 0) return false;
        mode_t bit = st.st_uid == uid ? S_IXUSR : st.st_gid == gid ? S_IXGRP : S_IXOTH;
        if (!(st.st_mode & bit)) return false;
    }
    return true;
}

static int set_caps(unsigned cap)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    data[0].effective = data[0].permitted = data[0].inheritable = 1U << cap;
    if (syscall(SYS_capset, &head, data) != 0) return -1;
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
}

/* Containers often lack the narrower capability but have the wider one. */
static int keep_passage(void)
{
    if (set_caps(CAP_DAC_READ_SEARCH) == 0) return 0;
    return set_caps(CAP_DAC_OVERRIDE);
}

int account_become(const char *user, const char *folder)
{
    const struct passwd *pw = getpwnam(user);
    if (!pw) {
        errno = ENOENT;
        return -1;
    }
    bool passage = !can_enter(folder, pw->pw_uid, pw->pw_gid);
    if (passage && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) return -1;
    if (setgroups(0, NULL) != 0 || setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) != 0 ||
        setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) != 0)
        return -1;
    return passage ? keep_passage() : 0;
}
