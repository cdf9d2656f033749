/* Preloaded into a process whose disk is to lose its power: keeps a shadow of the folder POWERCUT_ROOT in
 * POWERCUT_SHADOW. Names (new files, renames, removals, folders) reach the shadow at once; file data and lengths
 * only at fsync and fdatasync. sync_file_range, and a close, save nothing.
 *
 * What is written while a sync runs may or may not be saved, as on a real disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* The shadow's path for a path in the root; 0 if it lies elsewhere. */
static int shadow_of(const char *path, char *out) {
    const char *root = getenv("POWERCUT_ROOT"), *shadow = getenv("POWERCUT_SHADOW");
    if (!root || !shadow || !path) return 0;
    size_t len = strlen(root);
    if (strncmp(path, root, len) != 0 || (path[len] != '/' && path[len] != 0)) return 0;
    return snprintf(out, PATH_MAX, "%s%s", shadow, path + len) < PATH_MAX;
}

/* The path of an open file. */
static int path_of(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, out, PATH_MAX - 1);
    if (len <= 0) return 0;
    out[len] = 0;
    return 1;
}

/* The path of a name relative to an open folder. */
static int path_at(int dir, const char *name, char *out) {
    if (name[0] == '/' || dir == AT_FDCWD) return snprintf(out, PATH_MAX, "%s", name) < PATH_MAX;
    char folder[PATH_MAX];
    if (!path_of(dir, folder)) return 0;
    return snprintf(out, PATH_MAX, "%s/%s", folder, name) < PATH_MAX;
}

static void created(int fd) {
    int saved = errno;
    char path[PATH_MAX], shadow[PATH_MAX];
    if (fd >= 0 && path_of(fd, path) && shadow_of(path, shadow)) {
        int copy = REAL(open64)(shadow, O_CREAT | O_WRONLY, 0600);
        if (copy >= 0) close(copy);
    }
    errno = saved;
}

static void synced(int fd) {
    int saved = errno;
    char path[PATH_MAX], shadow[PATH_MAX], bytes[65536];
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && path_of(fd, path) && shadow_of(path, shadow)) {
        int from = REAL(open64)(path, O_RDONLY, 0), to = REAL(open64)(shadow, O_CREAT | O_WRONLY, 0600);
        off_t at = 0;
        ssize_t len;
        while (from >= 0 && to >= 0 && (len = pread(from, bytes, sizeof bytes, at)) > 0) {
            if (pwrite(to, bytes, (size_t)len, at) != len) abort();
            at += len;
        }
        if (to >= 0 && ftruncate(to, at) != 0) abort();
        if (from >= 0) close(from);
        if (to >= 0) close(to);
    }
    errno = saved;
}

#define MODE                                     \
    mode_t mode = 0;                             \
    if (flags & (O_CREAT | O_TMPFILE)) {         \
        va_list args;                            \
        va_start(args, flags);                   \
        mode = (mode_t)va_arg(args, int);        \
        va_end(args);                            \
    }

int open(const char *path, int flags, ...) {
    MODE int fd = REAL(open)(path, flags, mode);
    if (flags & O_CREAT) created(fd);
    return fd;
}

int open64(const char *path, int flags, ...) {
    MODE int fd = REAL(open64)(path, flags, mode);
    if (flags & O_CREAT) created(fd);
    return fd;
}

int openat(int dir, const char *path, int flags, ...) {
    MODE int fd = REAL(openat)(dir, path, flags, mode);
    if (flags & O_CREAT) created(fd);
    return fd;
}

int openat64(int dir, const char *path, int flags, ...) {
    MODE int fd = REAL(openat64)(dir, path, flags, mode);
    if (flags & O_CREAT) created(fd);
    return fd;
}

int fsync(int fd) {
    int result = REAL(fsync)(fd);
    if (result == 0) synced(fd);
    return result;
}

int fdatasync(int fd) {
    int result = REAL(fdatasync)(fd);
    if (result == 0) synced(fd);
    return result;
}

int rename(const char *from, const char *to) {
    char a[PATH_MAX], b[PATH_MAX];
    int result = REAL(rename)(from, to);
    if (result == 0 && shadow_of(from, a) && shadow_of(to, b)) REAL(rename)(a, b);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    char shadow[PATH_MAX];
    int result = REAL(mkdir)(path, mode);
    if (result == 0 && shadow_of(path, shadow)) REAL(mkdir)(shadow, 0700);
    return result;
}

int unlink(const char *path) {
    char shadow[PATH_MAX];
    int result = REAL(unlink)(path);
    if (result == 0 && shadow_of(path, shadow)) REAL(unlink)(shadow);
    return result;
}

int rmdir(const char *path) {
    char shadow[PATH_MAX];
    int result = REAL(rmdir)(path);
    if (result == 0 && shadow_of(path, shadow)) REAL(rmdir)(shadow);
    return result;
}

int unlinkat(int dir, const char *name, int flags) {
    char path[PATH_MAX], shadow[PATH_MAX];
    int known = path_at(dir, name, path);
    int result = REAL(unlinkat)(dir, name, flags);
    if (result == 0 && known && shadow_of(path, shadow)) REAL(unlinkat)(AT_FDCWD, shadow, flags);
    return result;
}
