#define _GNU_SOURCE
#include "chanserv_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

ssize_t chanserv_send_descriptors(int socket, const void *bytes, size_t size, const int descriptors[], int count) {
    union {
        char bytes[CMSG_SPACE(chanserv_message_descriptors * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct iovec data = {(void *)bytes, size};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    if (count < 0 || count > chanserv_message_descriptors) {
        errno = EINVAL;
        return -1;
    }
    if (count > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
        memcpy(CMSG_DATA(header), descriptors, (size_t)count * sizeof(int));
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL);
}

ssize_t chanserv_receive_descriptors(int socket, void *bytes, size_t size,
                                     int descriptors[chanserv_message_descriptors], int *count) {
    union {
        char bytes[CMSG_SPACE(chanserv_message_descriptors * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct iovec data = {bytes, size};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    *count = 0;
    ssize_t received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (received < 0) return received;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        int here = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        if (here > chanserv_message_descriptors - *count) here = chanserv_message_descriptors - *count;
        memcpy(descriptors + *count, CMSG_DATA(header), (size_t)here * sizeof(int));
        *count += here;
    }
    if (message.msg_flags & MSG_CTRUNC) {
        for (int index = 0; index < *count; index++) close(descriptors[index]);
        *count = 0;
        errno = EMSGSIZE;
        return -1;
    }
    return received;
}

int chanserv_peer(int socket, pid_t *process, uid_t *user) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return -1;
    *process = peer.pid;
    *user = peer.uid;
    return 0;
}
