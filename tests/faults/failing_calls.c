// Preloaded into a process: counts its file-system calls on paths under one folder, and disturbs the n-th of them.
//
// faults_arm(folder, what, number, error) begins: what is FAIL (error is set, -1 returned), SHORT (a write or read of half
// of the bytes; another call goes through), KILL (SIGKILL before the call). faults_count() tells how many there were.
// Children of the armed process are left alone, and EINTR spares the calls that POSIX does not let it interrupt.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FAIL = 1, SHORT = 2, KILL = 3 };
static char folder[PATH_MAX];
static int kind, error_number;
static long chosen, count;
static pid_t armed;

void faults_arm(const char *path, int what, long number, int error) {
    snprintf(folder, sizeof folder, "%s", path);
    kind = what, chosen = number, error_number = error, count = 0, armed = getpid();
}

long faults_count(void) { return count; }

static int is_under(const char *path) {
    char whole[2 * PATH_MAX];
    if (path == NULL || folder[0] == 0 || getpid() != armed) return 0;
    if (path[0] != '/') {
        char here[PATH_MAX];
        if (getcwd(here, sizeof here) == NULL) return 0;
        snprintf(whole, sizeof whole, "%s/%s", here, path);
        path = whole;
    }
    return strncmp(path, folder, strlen(folder)) == 0;
}

static int is_file_under(int descriptor) {
    char link[64], path[PATH_MAX];
    if (folder[0] == 0 || descriptor < 3) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return is_under(path);
}

// 0: the call goes through; else what is to happen to it.
static int next_call(void) {
    if (__sync_add_and_fetch(&count, 1) != chosen) return 0;
    if (kind == KILL) kill(getpid(), SIGKILL);
    if (kind == FAIL) errno = error_number;
    return kind;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FOPEN(name) \
    FILE *name(const char *path, const char *mode) { \
        REAL(name); if (is_under(path) && next_call() == FAIL) return NULL; return real(path, mode); }
#define ON_NAME(name, parameters, path, call) \
    int name parameters { REAL(name); \
        if (is_under(path) && !(kind == FAIL && error_number == EINTR) && next_call() == FAIL) return -1; \
        return call; }
#define ON_FILE(name, parameters, call) \
    int name parameters { REAL(name); if (is_file_under(file) && next_call() == FAIL) return -1; return call; }
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; va_end(rest); \
        REAL(name); if (is_under(path) && next_call() == FAIL) return -1; return real(path, flags, mode); }
#define OPENAT(name) \
    int name(int at, const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; va_end(rest); \
        REAL(name); if (is_under(path) && next_call() == FAIL) return -1; return real(at, path, flags, mode); }
#define TRANSFER(name, buffer_type) \
    ssize_t name(int file, buffer_type buffer, size_t size) { \
        REAL(name); int what = is_file_under(file) ? next_call() : 0; \
        if (what == FAIL) return -1; \
        return real(file, buffer, what == SHORT ? (size + 1) / 2 : size); }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
TRANSFER(write, const void *)
TRANSFER(read, void *)
FOPEN(fopen)
FOPEN(fopen64)
ON_NAME(rename, (const char *path, const char *to), path, real(path, to))
ON_NAME(link, (const char *path, const char *to), path, real(path, to))
ON_NAME(unlink, (const char *path), path, real(path))
ON_NAME(mkdir, (const char *path, mode_t mode), path, real(path, mode))
ON_NAME(rmdir, (const char *path), path, real(path))
ON_FILE(fsync, (int file), real(file))
ON_FILE(ftruncate, (int file, off_t size), real(file, size))
ON_FILE(ftruncate64, (int file, off64_t size), real(file, size))

ssize_t writev(int file, const struct iovec *parts, int number) {
    REAL(writev);
    int what = is_file_under(file) ? next_call() : 0;
    if (what == FAIL) return -1;
    return real(file, parts, what == SHORT ? 1 : number);
}

// With a folder's descriptor, as shutil.rmtree removes.
int unlinkat(int at, const char *path, int flags) {
    REAL(unlinkat);
    if (is_file_under(at) && !(kind == FAIL && error_number == EINTR) && next_call() == FAIL) return -1;
    return real(at, path, flags);
}

DIR *opendir(const char *path) {
    REAL(opendir);
    if (is_under(path) && !(kind == FAIL && error_number == EINTR) && next_call() == FAIL) return NULL;
    return real(path);
}

// Where a write was delayed, as on NFS, its error comes here. The descriptor is gone in any case.
int close(int file) {
    REAL(close);
    struct stat about;
    int what = is_file_under(file) && fstat(file, &about) == 0 && S_ISREG(about.st_mode)
        && !(kind == FAIL && error_number == EINTR) ? next_call() : 0;
    int result = real(file);
    if (what == FAIL) errno = error_number;
    return what == FAIL ? -1 : result;
}
