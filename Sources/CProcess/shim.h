/*
 * What Linux has for holding processes and handing them files, and Swift cannot call: system calls, functions with
 * variable arguments, and what the C library shows to GNU sources only.
 */
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

/* A descriptor of a child that has not been waited for: it can be polled for the child's end, and is never another's. */
static inline int chanserv_pidfd_open(pid_t process) {
    return (int)syscall(SYS_pidfd_open, process, 0u);
}

/* As kill(2), for whom a pidfd is of: nobody else can be hit. */
static inline int chanserv_pidfd_send_signal(int pidfd, int number) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, number, (siginfo_t *)0, 0u);
}

/* As waitid(2) on a pidfd: takes the child away once it has ended. */
static inline int chanserv_pidfd_wait(int pidfd, siginfo_t *information, int options) {
    return waitid((idtype_t)3 /* P_PIDFD */, (id_t)pidfd, information, options);
}

/* The child keeps no descriptor from `first` on. */
extern int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int first);
static inline int chanserv_spawn_closes_from(posix_spawn_file_actions_t *actions, int first) {
    return posix_spawn_file_actions_addclosefrom_np(actions, first);
}

/* The child runs in a folder. */
extern int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *actions, const char *folder);
static inline int chanserv_spawn_runs_in(posix_spawn_file_actions_t *actions, const char *folder) {
    return posix_spawn_file_actions_addchdir_np(actions, folder);
}

/* A pipe of which nothing is inherited by programs that are started meanwhile. */
static inline int chanserv_pipe(int ends[2]) { return (int)syscall(SYS_pipe2, ends, 02000000 /* O_CLOEXEC */); }

/* What tools show of this thread, up to 15 bytes. */
static inline int chanserv_name_thread(const char *name) { return prctl(PR_SET_NAME, name, 0ul, 0ul, 0ul); }

/* From a siginfo_t of SIGCHLD. */
static inline int chanserv_exit_status(const siginfo_t *information) { return information->si_status; }

/* The signal this process gets when the thread that started it ends, or all of its process. */
static inline int chanserv_die_with_parent(int number) {
    return prctl(PR_SET_PDEATHSIG, (unsigned long)number, 0ul, 0ul, 0ul);
}

/* A file without a name, which can be sealed. */
static inline int chanserv_memfd_create(const char *name) {
    return (int)syscall(SYS_memfd_create, name, 3u /* MFD_CLOEXEC | MFD_ALLOW_SEALING */);
}

/* Its size does not change from now on, nor does this promise, nor any byte of it unless it stays writable. */
static inline int chanserv_memfd_seal(int memfd, int stays_writable) {
    extern int fcntl(int, int, ...);
    return fcntl(memfd, 1033 /* F_ADD_SEALS */, 1 | 2 | 4 | (stays_writable ? 0 : 8));
}

/* How many descriptors this process may have. */
static inline unsigned long long chanserv_open_files_limit(void) {
    struct rlimit limit = {0, 0};
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}

/* As setrlimit(2), whose first parameter is an enumeration to C and not to C++. */
static inline int chanserv_limit(int resource, unsigned long long soft, unsigned long long hard) {
    struct rlimit limit = {(rlim_t)soft, (rlim_t)hard};
    return setrlimit((__rlimit_resource_t)resource, &limit);
}

/* Reports one event of a descriptor to an epoll instance: bytes to read, or their end. Then it rests until it is rearmed. */
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

/* Waits for events and puts the numbers of their descriptors into `numbers`, at most 32. */
static inline int chanserv_epoll_wait(int epoll, uint64_t numbers[32]) {
    struct epoll_event events[32];
    int count = epoll_wait(epoll, events, 32, -1);
    for (int i = 0; i < count; i++) numbers[i] = events[i].data.u64;
    return count;
}
