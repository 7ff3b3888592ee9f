/* A disk that can lose power, fill up and fail, put between a process and the system by LD_PRELOAD.
 *
 * CRASH_DISK_ROOT is the directory it watches, CRASH_DISK_LOG the file to which it adds each change
 * made there, CRASH_DISK_CONTROL a file of five 64-bit numbers that the test sets at any time:
 *   0: changes until the process is killed, just before the last of them; 0 for never
 *   1: bytes that files may still grow by; negative for any number
 *   2: error that every change and every opening for writing fails with; 0 for none
 *   3: whether what is written over takes room too, as where files are copied on write
 *   4: changes until that error sets in
 * A record is four 64-bit numbers (kind, size of path, size of data, offset), path and data.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, SYNC, UNLINK, RENAME };

static const char *root;
static size_t root_size;
static int log_fd = -1;
static volatile int64_t *control;

__attribute__((constructor)) static void begin(void)
{
    const char *log = getenv("CRASH_DISK_LOG"), *shared = getenv("CRASH_DISK_CONTROL");
    root = getenv("CRASH_DISK_ROOT");
    if (!root || !log || !shared)
        return;
    root_size = strlen(root);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, shared, O_RDWR | O_CLOEXEC);
    void *map = mmap(NULL, 40, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (map != MAP_FAILED)
        control = map;
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (!control || log_fd < 0)
        _exit(3);
}

static int is_ours(const char *path)
{
    return log_fd >= 0 && path && !strncmp(path, root, root_size) &&
           (path[root_size] == '/' || path[root_size] == 0);
}

static int path_of(int fd, char path[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    path[size < 0 ? 0 : size] = 0;
    return is_ours(path);
}

static int is_failing(int changes)
{
    if (!control[2])
        return 0;
    if (control[4] <= 0)
        return 1;
    control[4] -= changes;
    return 0;
}

/* Whether a change may be made; errno says why not. */
static int allowed(void)
{
    if (is_failing(1)) {
        errno = (int)control[2];
        return 0;
    }
    if (control[0] > 0 && --control[0] == 0)
        kill(getpid(), SIGKILL);
    return 1;
}

/* Whether so much may be written, by which a file grows by so much. */
static int has_room(int64_t size, int64_t growth)
{
    growth = control[3] ? size : growth;
    if (growth <= 0 || control[1] < 0)
        return 1;
    if (growth > control[1]) {
        errno = ENOSPC;
        return 0;
    }
    control[1] -= growth;
    return 1;
}

static void give_room(int64_t size)
{
    if (control[1] >= 0)
        control[1] += size;
}

static void record(int64_t kind, const char *path, const void *data, size_t size, int64_t offset)
{
    int64_t head[4] = {kind, (int64_t)strlen(path), (int64_t)size, offset};
    struct iovec parts[3] = {
        {head, sizeof head}, {(void *)path, strlen(path)}, {(void *)data, size}};
    if (syscall(SYS_writev, log_fd, parts, 3) != (long)(sizeof head + strlen(path) + size))
        _exit(4);
}

static int64_t size_of(int fd)
{
    struct stat status;
    return fstat(fd, &status) ? 0 : status.st_size;
}

/* --- opening -------------------------------------------------------------------------------- */

static int opened(int directory, const char *path, int flags, mode_t mode)
{
    struct stat status;
    int ours = is_ours(path), existed = ours && !stat(path, &status);
    if (ours && (flags & O_ACCMODE) != O_RDONLY) {
        int changes = (!existed && flags & O_CREAT) || (existed && flags & O_TRUNC);
        if (is_failing(0)) {
            errno = (int)control[2];
            return -1;
        }
        if (changes && !allowed())
            return -1;
    }
    int fd = (int)syscall(SYS_openat, directory, path, flags, mode);
    if (ours && fd >= 0 && !existed && flags & O_CREAT)
        record(CREATE, path, NULL, 0, 0);
    if (ours && fd >= 0 && existed && flags & O_TRUNC) {
        give_room(status.st_size);
        record(TRUNCATE, path, NULL, 0, 0);
    }
    return fd;
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;                  \
        va_end(more);                                                                              \
        return opened(AT_FDCWD, path, flags, mode);                                                \
    }

OPEN(open)
OPEN(open64)

/* --- changes of content --------------------------------------------------------------------- */

static int64_t place_of(int fd)
{
    return fcntl(fd, F_GETFL) & O_APPEND ? size_of(fd) : lseek(fd, 0, SEEK_CUR);
}

static ssize_t written(int fd, const void *data, size_t size, int64_t offset, int is_at)
{
    char path[PATH_MAX];
    int ours = log_fd >= 0 && path_of(fd, path);
    int64_t place = is_at ? offset : (ours ? place_of(fd) : 0);
    if (ours && (!allowed() || !has_room((int64_t)size, place + (int64_t)size - size_of(fd))))
        return -1;
    ssize_t done = is_at ? syscall(SYS_pwrite64, fd, data, size, offset)
                         : syscall(SYS_write, fd, data, size);
    if (ours && done > 0)
        record(WRITE, path, data, (size_t)done, place);
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    return written(fd, data, size, offset, 1);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return written(fd, data, size, offset, 1);
}

ssize_t write(int fd, const void *data, size_t size)
{
    return written(fd, data, size, 0, 0);
}

int ftruncate64(int fd, off64_t size)
{
    char path[PATH_MAX];
    int ours = log_fd >= 0 && path_of(fd, path);
    int64_t growth = ours ? size - size_of(fd) : 0;
    if (ours && (!allowed() || !has_room(0, growth)))
        return -1;
    int failed = (int)syscall(SYS_ftruncate, fd, size);
    if (ours && !failed) {
        give_room(growth < 0 ? -growth : 0);
        record(TRUNCATE, path, NULL, 0, size);
    }
    return failed;
}

int ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

static int synced(int fd, long call)
{
    char path[PATH_MAX];
    int ours = log_fd >= 0 && path_of(fd, path);
    if (ours && !allowed())
        return -1;
    int failed = (int)syscall(call, fd);
    if (ours && !failed)
        record(SYNC, path, NULL, 0, 0);
    return failed;
}

int fsync(int fd)
{
    return synced(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return synced(fd, SYS_fdatasync);
}

/* --- room ----------------------------------------------------------------------------------- */

int statvfs64(const char *path, struct statvfs64 *status)
{
    int (*next)(const char *, struct statvfs64 *) = dlsym(RTLD_NEXT, "statvfs64");
    int failed = next(path, status);
    if (is_ours(path) && !failed && control[1] >= 0)
        status->f_bavail = (fsblkcnt64_t)control[1] / status->f_frsize;
    return failed;
}

/* --- changes of names ----------------------------------------------------------------------- */

int unlink(const char *path)
{
    struct stat status;
    int ours = is_ours(path) && !stat(path, &status);
    if (ours && !allowed())
        return -1;
    int failed = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (ours && !failed) {
        give_room(status.st_size);
        record(UNLINK, path, NULL, 0, 0);
    }
    return failed;
}

int rename(const char *from, const char *to)
{
    if (is_ours(from) && !allowed())
        return -1;
    int failed = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (is_ours(from) && !failed)
        record(RENAME, from, to, strlen(to), 0);
    return failed;
}
