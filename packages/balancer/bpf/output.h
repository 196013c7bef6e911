/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * How packets leave a balancer: to a server's link-layer address, in a tunnel, or as an error back to the client.
 */
#pragma once
#include "layout.h"

inline_ void ethernet(void *data, const struct generation *g, const struct server *server, __u16 type)
{
	__builtin_memcpy(data, server->mac, 6);
	__builtin_memcpy(data + 6, g->mac, 6);
	*(__be16 *)(data + 12) = bpf_htons(type);
}

inline_ int transmit(struct xdp_md *context, const struct server *server)
{
	return server->device == context->ingress_ifindex ? XDP_TX : bpf_redirect(server->device, 0);
}

/* How much a tunnel to this server adds. */
inline_ __u32 overhead(const struct server *server, __u8 previous)
{
	return server->v6 ? (previous ? 64 : 40) : (previous ? 36 : 20);
}

/*
 * IPv4-in-IPv4 and its relatives (RFC 2003, RFC 4213, RFC 2473). With a previous server, Beamer's option follows: in IPv4 type
 * 0x61, 16 octets (previous server, seconds, generation) as published; in IPv6 a destination option of an experimental type
 * (RFC 4727 §3) with address and generation.
 */
inline_ int encapsulate(struct xdp_md *context, const struct packet *p, const struct generation *g, const struct server *server, const struct decision *d)
{
	__u32 more = overhead(server, d->previous);
	if (bpf_xdp_adjust_head(context, -(int)more))
		return XDP_DROP;
	void *data = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	const struct server *before = &g->server[d->previous];
	__u8 inner = p->v6 ? 41 : 4;
	if (server->v6) {
		struct ipv6_header *outer = data + ETHERNET;
		if ((void *)(outer + 1) + 24 > end)
			return XDP_DROP;
		ethernet(data, g, server, ETH_P_IPV6);
		outer->first = bpf_htonl(0x60000000);
		outer->payload = bpf_htons(p->total + more - 40);
		outer->hops = 64;
		for (int i = 0; i < 4; i++) {
			outer->source[i] = bpf_htonl(g->own6[i]);
			outer->destination[i] = bpf_htonl(server->address[i]);
		}
		outer->next = inner;
		if (d->previous) {
			outer->next = 60;
			__u8 *option = (void *)(outer + 1);
			option[0] = inner;
			option[1] = 2;
			option[2] = 0x1e;
			option[3] = 20;
			__be32 *value = (void *)(option + 4);
			for (int i = 0; i < 4; i++)
				value[i] = bpf_htonl(before->address[i]);
			value[4] = bpf_htonl(g->number);
		}
		return transmit(context, server);
	}
	struct ipv4_header *outer = data + ETHERNET;
	if ((void *)(outer + 1) + 16 > end)
		return XDP_DROP;
	ethernet(data, g, server, ETH_P_IP);
	outer->version_length = d->previous ? 0x49 : 0x45;
	outer->tos = 0;
	outer->total = bpf_htons(p->total + more);
	outer->id = 0;
	outer->fragment = bpf_htons(0x4000);
	outer->ttl = 64;
	outer->protocol = inner;
	outer->checksum = 0;
	outer->source = bpf_htonl(g->own4);
	outer->destination = bpf_htonl(server->address[0]);
	__u16 *words = (void *)outer;
	__u32 sum = 0;
	if (d->previous) {
		__be32 *option = (void *)(outer + 1);
		option[0] = bpf_htonl(0x61100000);
		option[1] = bpf_htonl(before->address[0]);
		option[2] = bpf_htonl(seconds());
		option[3] = bpf_htonl(g->number);
#pragma clang loop unroll(full)
		for (int i = 10; i < 18; i++)
			sum += words[i];
	}
#pragma clang loop unroll(full)
	for (int i = 0; i < 10; i++)
		sum += words[i];
	outer->checksum = ~fold(sum);
	return transmit(context, server);
}

#define QUOTE 128

/* "Packet too big" to the client, from the service (RFC 1191 §4, RFC 4443 §3.2): the tunnel's overhead is not the client's fault. */
inline_ int too_big(struct xdp_md *context, const struct packet *p, __u32 mtu)
{
	__u32 header = p->v6 ? 48 : 28;
	void *data = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	if (data + ETHERNET + QUOTE > end)
		return XDP_DROP;
	__u8 macs[12];
	__builtin_memcpy(macs, data, 12);
	int cut = (int)(end - data) - ETHERNET - QUOTE;
	if (bpf_xdp_adjust_tail(context, -cut) || bpf_xdp_adjust_head(context, -(int)header))
		return XDP_DROP;
	data = (void *)(long)context->data;
	end = (void *)(long)context->data_end;
	if (data + ETHERNET + 48 + QUOTE > end && (p->v6 || data + ETHERNET + 28 + QUOTE > end))
		return XDP_DROP;
	__builtin_memcpy(data, macs + 6, 6);
	__builtin_memcpy(data + 6, macs, 6);
	if (p->v6) {
		struct ipv6_header *ip = data + ETHERNET;
		__be32 *icmp = (void *)(ip + 1);
		if ((void *)icmp + 8 + QUOTE > end)
			return XDP_DROP;
		*(__be16 *)(data + 12) = bpf_htons(ETH_P_IPV6);
		ip->first = bpf_htonl(0x60000000);
		ip->payload = bpf_htons(8 + QUOTE);
		ip->next = IPPROTO_ICMPV6;
		ip->hops = 64;
		for (int i = 0; i < 4; i++) {
			ip->source[i] = bpf_htonl(p->destination[i]);
			ip->destination[i] = bpf_htonl(p->source[i]);
		}
		icmp[0] = bpf_htonl(0x02000000);
		icmp[1] = bpf_htonl(mtu);
		__s64 sum = bpf_csum_diff(0, 0, ip->source, 32, bpf_htonl(8 + QUOTE + IPPROTO_ICMPV6));
		sum = bpf_csum_diff(0, 0, icmp, 8 + QUOTE, sum);
		*((__u16 *)icmp + 1) = ~fold(sum);
		return XDP_TX;
	}
	struct ipv4_header *ip = data + ETHERNET;
	__be32 *icmp = (void *)(ip + 1);
	if ((void *)icmp + 8 + QUOTE > end)
		return XDP_DROP;
	*(__be16 *)(data + 12) = bpf_htons(ETH_P_IP);
	ip->version_length = 0x45;
	ip->tos = 0;
	ip->total = bpf_htons(28 + QUOTE);
	ip->id = 0;
	ip->fragment = 0;
	ip->ttl = 64;
	ip->protocol = IPPROTO_ICMP;
	ip->checksum = 0;
	ip->source = bpf_htonl(p->destination[0]);
	ip->destination = bpf_htonl(p->source[0]);
	ip->checksum = ~fold(bpf_csum_diff(0, 0, (__be32 *)ip, 20, 0));
	icmp[0] = bpf_htonl(0x03040000);
	icmp[1] = bpf_htonl(mtu);
	*((__u16 *)icmp + 1) = ~fold(bpf_csum_diff(0, 0, icmp, 8 + QUOTE, 0));
	return XDP_TX;
}
