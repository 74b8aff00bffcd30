/*
 * Functions for Unix sockets whose headers have macros that Swift cannot call. This header includes none of them:
 * otherwise their declarations would belong to this module, and would be missing in Swift's own.
 *
 * The functions return -1 with errno if they fail.
 */
#ifndef CHANSERV_SOCKET_H
#define CHANSERV_SOCKET_H

#include <stddef.h>
#include <sys/types.h>

/* Maximum number of descriptors in one message: SCM_MAX_FD of Linux. */
enum { chanserv_message_descriptors = 253 };

/* Sends bytes and up to `chanserv_message_descriptors` descriptors over a Unix socket. Returns the number of bytes. */
ssize_t chanserv_send_descriptors(int socket, const void *bytes, size_t size, const int descriptors[], int count);

/*
 * Receives bytes and descriptors, which are close-on-exec, over a Unix socket. Returns the number of bytes. Stores the
 * descriptors, and their number in `count`. Fails with EMSGSIZE, and closes all of them, if the system has dropped
 * some: there were too many, or this process has no free descriptor.
 */
ssize_t chanserv_receive_descriptors(int socket, void *bytes, size_t size,
                                     int descriptors[chanserv_message_descriptors], int *count);

/* Stores the process and the user at the other end of a Unix socket. Returns 0. */
int chanserv_peer(int socket, pid_t *process, uid_t *user);

#endif
