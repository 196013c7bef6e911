/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * On a server whose kernel stays as it is: takes packets out of the balancers' tunnels, and sends those of connections that this
 * server does not know on to the server that had their bucket before (Olteanu et al., NSDI 2018, §4.2).
 */
#include "common.h"

#define TCP_LISTEN 10
#define AF_INET 2
#define AF_INET6 10

enum reason { TAKEN, CHAINED, NOT_A_TUNNEL, FOREIGN, BAD_PACKET, NO_ROUTE, REASONS = 8 };

struct config {
	__u32 own4, own6[4];
};

struct address {
	__u32 words[4];
};

MAP(config, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct config), 1, 0, 0);
/* Where tunnels may come from. */
MAP(balancers, BPF_MAP_TYPE_HASH, sizeof(struct address), 1, 256, 0, 0);
MAP(counters, BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, REASONS, 0, 0);
struct work {
	struct packet inner;
	struct address previous;
	struct bpf_fib_lookup route;
	union {
		struct bpf_sock_tuple tuple;
		__u8 room[64];
	};
};
MAP(scratch, BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct work), 1, 0, 0);

inline_ int end_with(__u32 reason, int verdict)
{
	__u64 *counter = bpf_map_lookup_elem(&counters, &reason);
	if (counter)
		(*counter)++;
	return verdict;
}

/* Whether a socket here, a half-open one too, belongs to this tuple. */
inline_ int known(struct xdp_md *context, struct work *work)
{
	const struct packet *p = &work->inner;
	struct bpf_sock_tuple *tuple = &work->tuple;
	__u32 size;
	if (p->v6) {
		for (int i = 0; i < 4; i++) {
			tuple->ipv6.saddr[i] = bpf_htonl(p->source[i]);
			tuple->ipv6.daddr[i] = bpf_htonl(p->destination[i]);
		}
		tuple->ipv6.sport = bpf_htons(p->sport);
		tuple->ipv6.dport = bpf_htons(p->dport);
	} else {
		tuple->ipv4.saddr = bpf_htonl(p->source[0]);
		tuple->ipv4.daddr = bpf_htonl(p->destination[0]);
		tuple->ipv4.sport = bpf_htons(p->sport);
		tuple->ipv4.dport = bpf_htons(p->dport);
	}
	struct bpf_sock *found = p->v6 ? bpf_skc_lookup_tcp(context, tuple, sizeof(tuple->ipv6), BPF_F_CURRENT_NETNS, 0)
				       : bpf_skc_lookup_tcp(context, tuple, sizeof(tuple->ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!found)
		return 0;
	int own = found->state != TCP_LISTEN;
	bpf_sk_release(found);
	return own;
}

/* Sends the packet on as it came, to another server, and says that nobody is to be asked after that one. */
inline_ int chain(struct xdp_md *context, struct work *work, int v6)
{
	void *data = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	struct bpf_fib_lookup *route = &work->route;
	__builtin_memset(route, 0, sizeof(*route));
	route->ifindex = context->ingress_ifindex;
	if (v6) {
		struct ipv6_header *ip = data + ETHERNET;
		if ((void *)(ip + 1) + 24 > end)
			return end_with(BAD_PACKET, XDP_DROP);
		__be32 *option = (void *)(ip + 1) + 4;
		route->family = AF_INET6;
		for (int i = 0; i < 4; i++) {
			route->ipv6_src[i] = ip->source[i];
			route->ipv6_dst[i] = ip->destination[i] = option[i];
			option[i] = 0;
		}
	} else {
		struct ipv4_header *ip = data + ETHERNET;
		if ((void *)(ip + 1) + 16 > end)
			return end_with(BAD_PACKET, XDP_DROP);
		__be32 *option = (void *)(ip + 1) + 4;
		route->family = AF_INET;
		route->ipv4_src = ip->source;
		route->ipv4_dst = ip->destination = *option;
		*option = 0;
		ip->checksum = 0;
		__u16 *words = (void *)ip;
		__u32 sum = 0;
#pragma clang loop unroll(full)
		for (int i = 0; i < 18; i++)
			sum += words[i];
		ip->checksum = ~fold(sum);
	}
	route->tot_len = 0;
	long result = bpf_fib_lookup(context, route, sizeof(*route), 0);
	data = (void *)(long)context->data;
	end = (void *)(long)context->data_end;
	if (data + ETHERNET > end)
		return end_with(BAD_PACKET, XDP_DROP);
	if (result == BPF_FIB_LKUP_RET_SUCCESS) {
		__builtin_memcpy(data, route->dmac, 6);
		__builtin_memcpy(data + 6, route->smac, 6);
		end_with(CHAINED, 0);
		return route->ifindex == context->ingress_ifindex ? XDP_TX : bpf_redirect(route->ifindex, 0);
	}
	/* No neighbour yet: back to who sent it, a router, which knows the way or asks for it. */
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH) {
		__u8 mac[6];
		__builtin_memcpy(mac, data, 6);
		__builtin_memcpy(data, data + 6, 6);
		__builtin_memcpy(data + 6, mac, 6);
		return end_with(CHAINED, XDP_TX);
	}
	return end_with(NO_ROUTE, XDP_DROP);
}

SEC("xdp")
int shim(struct xdp_md *context)
{
	void *data = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	__u32 zero = 0;
	struct work *work = bpf_map_lookup_elem(&scratch, &zero);
	struct config *own = bpf_map_lookup_elem(&config, &zero);
	if (!work || !own || data + ETHERNET + 20 > end)
		return XDP_PASS;
	struct packet *p = &work->inner;
	struct address from = {};
	__be16 type = *(__be16 *)(data + 12);
	__u32 header;
	__u8 protocol;
	int v6 = type == bpf_htons(ETH_P_IPV6);
	__builtin_memset(&work->previous, 0, sizeof(work->previous));
	if (v6) {
		struct ipv6_header *ip = data + ETHERNET;
		if ((void *)(ip + 1) > end)
			return XDP_PASS;
		for (int i = 0; i < 4; i++)
			if (ip->destination[i] != bpf_htonl(own->own6[i]))
				return XDP_PASS;
		words(from.words, ip->source);
		header = 40;
		protocol = ip->next;
		if (protocol == 60) {
			__u8 *option = (void *)(ip + 1);
			if ((void *)(option + 24) > end)
				return XDP_PASS;
			if (option[1] != 2 || option[2] != 0x1e || option[3] != 20)
				return XDP_PASS;
			words(work->previous.words, (__be32 *)(option + 4));
			protocol = option[0];
			header = 64;
		}
	} else if (type == bpf_htons(ETH_P_IP)) {
		struct ipv4_header *ip = data + ETHERNET;
		if ((void *)(ip + 1) > end)
			return XDP_PASS;
		if (ip->destination != bpf_htonl(own->own4))
			return XDP_PASS;
		from.words[0] = bpf_ntohl(ip->source);
		protocol = ip->protocol;
		header = (ip->version_length & 15) * 4;
		if (header == 36) {
			__u8 *option = (void *)(ip + 1);
			if ((void *)(option + 16) > end)
				return XDP_PASS;
			if (option[0] == 0x61 && option[1] == 16)
				work->previous.words[0] = bpf_ntohl(*(__be32 *)(option + 4));
		} else if (header != 20) {
			return XDP_PASS;
		}
	} else {
		return XDP_PASS;
	}
	if (protocol != 4 && protocol != 41)
		return XDP_PASS;
	if (!bpf_map_lookup_elem(&balancers, &from))
		return end_with(FOREIGN, XDP_DROP);
	int parsed = protocol == 4 ? parse_ipv4(data, end, ETHERNET + header, p) : parse_ipv6(data, end, ETHERNET + header, p);
	if (parsed != PARSED)
		return end_with(BAD_PACKET, XDP_DROP);
	int previous = work->previous.words[0] | work->previous.words[1] | work->previous.words[2] | work->previous.words[3];
	if (previous && p->fragment != LATER_FRAGMENT && p->protocol == IPPROTO_TCP) {
		if (parse_tcp(data, end, p) != PARSED)
			return end_with(BAD_PACKET, XDP_DROP);
		/* New connections are for whoever has the bucket now. */
		if ((p->flags & (TCP_SYN | TCP_ACK)) != TCP_SYN && !known(context, work))
			return chain(context, work, v6);
	}
	__u8 macs[12];
	data = (void *)(long)context->data;
	end = (void *)(long)context->data_end;
	if (data + ETHERNET > end)
		return XDP_PASS;
	__builtin_memcpy(macs, data, 12);
	if (bpf_xdp_adjust_head(context, (int)header))
		return end_with(BAD_PACKET, XDP_DROP);
	data = (void *)(long)context->data;
	end = (void *)(long)context->data_end;
	if (data + ETHERNET > end)
		return XDP_DROP;
	__builtin_memcpy(data, macs, 12);
	*(__be16 *)(data + 12) = bpf_htons(protocol == 4 ? ETH_P_IP : ETH_P_IPV6);
	return end_with(TAKEN, XDP_PASS);
}
