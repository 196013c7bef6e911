/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * What data planes are measured with: a sender whose packets come from many tuples, and the least that a program can do.
 */
#include "common.h"

#define TEMPLATE 64

struct target {
	__u32 source, flows;
	__u32 device;
	/* The headers as they are sent, but for address and port. */
	__u8 frame[TEMPLATE];
};

MAP(target, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct target), 1, 0, 0);
MAP(state, BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 2, 0, 0);

/* Changes address and port of the frame it is given, packet by packet, and sends it. */
SEC("xdp/send")
int sender(struct xdp_md *context)
{
	void *data = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	__u32 zero = 0;
	struct target *to = bpf_map_lookup_elem(&target, &zero);
	__u64 *turn = bpf_map_lookup_elem(&state, &zero);
	struct ipv4_header *ip = data + ETHERNET;
	struct tcp_header *tcp = (void *)(ip + 1);
	if (!to || !turn || data + TEMPLATE > end)
		return XDP_DROP;
	__u32 flow = finish(*turn % (to->flows ? to->flows : 1));
	(*turn)++;
	/* The sum over addresses does not change when what is added to one word is taken from another: checksums stay right. */
	__u16 more = flow & 0x7fff;
	/* Pages are used again as whoever received them has left them. */
	__builtin_memcpy(data, to->frame, TEMPLATE);
	__u32 sum = (__u16)~ip->checksum + (__u16)~bpf_htons(to->source & 0xffff) + bpf_htons((to->source + more) & 0xffff);
	ip->source = bpf_htonl(to->source + more);
	tcp->source = bpf_htons(65000 - more);
	ip->checksum = ~fold(sum);
	return bpf_redirect(to->device, 0);
}

SEC("xdp/pass")
int pass(struct xdp_md *context)
{
	return XDP_PASS;
}

/* Counts and drops: the end of the road. */
SEC("xdp/sink")
int sink(struct xdp_md *context)
{
	__u32 one = 1;
	__u64 *counter = bpf_map_lookup_elem(&state, &one);
	if (counter)
		(*counter)++;
	return XDP_DROP;
}

inline_ int turn_round(struct xdp_md *context)
{
	void *data = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	__u8 mac[6];
	if (data + ETHERNET > end)
		return XDP_DROP;
	__builtin_memcpy(mac, data, 6);
	__builtin_memcpy(data, data + 6, 6);
	__builtin_memcpy(data + 6, mac, 6);
	return XDP_TX;
}

/* Bare XDP_TX. */
SEC("xdp/turn")
int turn(struct xdp_md *context)
{
	return turn_round(context);
}

/* Bare redirect. */
SEC("xdp/redirect")
int redirect(struct xdp_md *context)
{
	__u32 zero = 0;
	struct target *to = bpf_map_lookup_elem(&target, &zero);
	if (!to)
		return XDP_DROP;
	turn_round(context);
	return bpf_redirect(to->device, 0);
}
