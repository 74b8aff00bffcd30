/*
 * Linux functions for processes and files that Swift cannot call directly: system calls, functions with variable
 * arguments, and functions that the C library declares only with _GNU_SOURCE.
 *
 * Functions without another description return 0 or a descriptor, or -1 with errno.
 */
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef F_DUPFD_CLOEXEC
#define F_DUPFD_CLOEXEC 1030
#endif

/*
 * Opens a pidfd of a child that was not reaped yet. It becomes readable when the child ends. It never refers to another
 * process that reuses the ID.
 */
static inline int chanserv_pidfd_open(pid_t process) {
    return (int)syscall(SYS_pidfd_open, process, 0u);
}

/* Sends a signal like kill(2), but only to the process of the pidfd. */
static inline int chanserv_pidfd_send_signal(int pidfd, int number) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, number, (siginfo_t *)0, 0u);
}

/* Calls waitid(2) on a pidfd, which reaps the child after its end. */
static inline int chanserv_pidfd_wait(int pidfd, siginfo_t *information, int options) {
    return waitid((idtype_t)3 /* P_PIDFD */, (id_t)pidfd, information, options);
}

extern int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int first);
extern int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *actions, const char *folder);

enum {
    /* Maximum number of descriptors that `chanserv_spawn` passes on. */
    chanserv_spawn_descriptors = 8,
    /* Lowest descriptor for temporary copies. It is above all descriptors that a process inherits. */
    chanserv_spawn_lowest_copy = 64
};

/*
 * Starts a program in a process group of its own, with default handling of all signals and an empty signal mask.
 *
 * The program gets the `count` descriptors as 0, 1, 2, … and no others; -1 stands for /dev/null. Its working folder is
 * `folder`, or that of this process if `folder` is NULL. Returns 0 or an error number.
 */
static inline int chanserv_spawn(pid_t *process, const char *program, char *const arguments[],
                                 char *const environment[], const int descriptors[], int count, const char *folder) {
    if (count > chanserv_spawn_descriptors) return E2BIG;
    int copies[chanserv_spawn_descriptors];
    int copied = 0;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    int code = 0;
    for (int number = 0; number < count && code == 0; number++) {
        if (descriptors[number] < 0) {
            code = posix_spawn_file_actions_addopen(&actions, number, "/dev/null", O_RDWR, 0);
            continue;
        }
        /*
         * Without the copy, a descriptor could be overwritten before it is passed on: descriptor 4 may become 3 while 3
         * becomes 4.
         */
        int copy = fcntl(descriptors[number], F_DUPFD_CLOEXEC, chanserv_spawn_lowest_copy);
        if (copy < 0) {
            /* If the limit of open files is below that number, the system reports EINVAL. */
            code = errno == EINVAL ? EMFILE : errno;
        } else {
            copies[copied++] = copy;
            code = posix_spawn_file_actions_adddup2(&actions, copy, number);
        }
    }
    if (code == 0) code = posix_spawn_file_actions_addclosefrom_np(&actions, count);
    if (code == 0 && folder) code = posix_spawn_file_actions_addchdir_np(&actions, folder);

    sigset_t signals;
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes, &signals);
    sigfillset(&signals);
    posix_spawnattr_setsigdefault(&attributes, &signals);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    if (code == 0) code = posix_spawn(process, program, &actions, &attributes, arguments, environment);

    for (int index = 0; index < copied; index++) close(copies[index]);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return code;
}

/* Creates a pipe whose ends are close-on-exec from the start. */
static inline int chanserv_pipe(int ends[2]) { return (int)syscall(SYS_pipe2, ends, O_CLOEXEC); }

/*
 * Closes all descriptors of this process from 3 on in programs that it will start. Before Linux 5.11 this does nothing,
 * and such programs may inherit descriptors whose creator did not ask for close-on-exec.
 */
static inline void chanserv_close_all_on_exec(void) {
    (void)syscall(436 /* SYS_close_range */, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
}

/* Sets the name of the calling thread for debuggers and ps, up to 15 bytes. */
static inline int chanserv_name_thread(const char *name) { return prctl(PR_SET_NAME, name, 0ul, 0ul, 0ul); }

/* Returns the path under which the linker has loaded a library; `handle` is a result of dlopen(3). */
static inline const char *chanserv_library_path(void *handle) {
    extern int dlinfo(void *, int, void *);
    struct link_map *map = (struct link_map *)0;
    return dlinfo(handle, 2 /* RTLD_DI_LINKMAP */, &map) == 0 && map ? map->l_name : (const char *)0;
}

/* Returns the exit status or the signal number from a siginfo_t of SIGCHLD. */
static inline int chanserv_exit_status(const siginfo_t *information) { return information->si_status; }

/* Sets the signal that this process receives when the thread that started it ends, also by the end of its process. */
static inline int chanserv_die_with_parent(int number) {
    return prctl(PR_SET_PDEATHSIG, (unsigned long)number, 0ul, 0ul, 0ul);
}

/* Creates an anonymous file that can be sealed. */
static inline int chanserv_memfd_create(const char *name) {
    return (int)syscall(SYS_memfd_create, name, 3u /* MFD_CLOEXEC | MFD_ALLOW_SEALING */);
}

/* Seals the size and the set of seals of the file and, unless it stays writable, its content. */
static inline int chanserv_memfd_seal(int memfd, int stays_writable) {
    return fcntl(memfd, 1033 /* F_ADD_SEALS */, 1 | 2 | 4 | (stays_writable ? 0 : 8));
}

/* Returns the maximum number of descriptors of this process (the soft limit). */
static inline unsigned long long chanserv_open_files_limit(void) {
    struct rlimit limit = {0, 0};
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}

/* Calls setrlimit(2). The type of its first parameter is an enumeration in C but not in C++, hence this function. */
static inline int chanserv_limit(int resource, unsigned long long soft, unsigned long long hard) {
    struct rlimit limit = {(rlim_t)soft, (rlim_t)hard};
    return setrlimit((__rlimit_resource_t)resource, &limit);
}

/*
 * Adds, changes or removes a descriptor of an epoll instance. The instance reports one event, bytes to read or their
 * end, and none after it until the descriptor is rearmed.
 */
static inline int chanserv_epoll_control(int epoll, int operation, int descriptor, uint64_t number) {
    struct epoll_event event;
    event.events = EPOLLIN | EPOLLONESHOT;
    event.data.u64 = number;
    return epoll_ctl(epoll, operation, descriptor, &event);
}
static inline int chanserv_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }
static inline int chanserv_epoll_add(int epoll, int descriptor, uint64_t number) {
    return chanserv_epoll_control(epoll, EPOLL_CTL_ADD, descriptor, number);
}
static inline int chanserv_epoll_rearm(int epoll, int descriptor, uint64_t number) {
    return chanserv_epoll_control(epoll, EPOLL_CTL_MOD, descriptor, number);
}
static inline int chanserv_epoll_remove(int epoll, int descriptor) {
    return chanserv_epoll_control(epoll, EPOLL_CTL_DEL, descriptor, 0);
}

/* Waits for events, writes their numbers to `numbers`, and returns how many there are, at most 32; -1 with errno. */
static inline int chanserv_epoll_wait(int epoll, uint64_t numbers[32]) {
    struct epoll_event events[32];
    int count = epoll_wait(epoll, events, 32, -1);
    for (int i = 0; i < count; i++) numbers[i] = events[i].data.u64;
    return count;
}

/* The environment of this process. */
static inline char *const *chanserv_environment(void) {
    extern char **environ;
    return environ;
}

/*
 * The first call of a program. If this process is the init process of its PID namespace, as in a container, a child
 * continues as the program. This process then passes signals on to the child, reaps the orphans of the namespace, which
 * have no other parent, and ends as the child ends. Returns in the child, and in a process that is not init.
 *
 * The child gets its own process group and the terminal, so that Ctrl-C reaches it once. Returns whether this process is
 * that child.
 */
static inline int chanserv_leave_init(void) {
    if (getpid() != 1) return 0;
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    pid_t child = fork();
    /* Without a child the program runs as before, and nothing reaps orphans. */
    if (child <= 0) {
        if (child == 0) {
            setpgid(0, 0);
            if (isatty(0)) tcsetpgrp(0, getpid());
            chanserv_die_with_parent(SIGKILL);
        }
        sigprocmask(SIG_SETMASK, &before, (sigset_t *)0);
        return child == 0;
    }
    for (;;) {
        siginfo_t information;
        int number = sigwaitinfo(&all, &information);
        if (number != SIGCHLD) {
            if (number > 0) kill(child, number);
            continue;
        }
        int status;
        pid_t ended;
        while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
            if (ended == child) _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        }
    }
}
