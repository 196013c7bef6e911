/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * What the programs share: shapes of maps (node/xdp/layout.ts writes them), parsing of a frame, the hashes of src/hash.ts.
 * Addresses and ports are numbers in host byte order, as in the TypeScript cores, so that every data plane decides alike.
 */
#pragma once
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define inline_ static __always_inline
/* The compiler knows that a check cannot fail; the verifier does not. */
#define KEEP(value) asm volatile("" : "+r"(value))

/* Read by link's bpf-object.ts. `inner`: 1 + place of the map that shows what the inner ones look like. */
struct map {
	__u32 type, key_size, value_size, entries, flags, inner;
};

#define MAP(name, kind, key, value, count, map_flags, inner_map) \
	struct map name SEC("maps") = { kind, key, value, count, map_flags, inner_map }

#define IPPROTO_ICMPV6 58

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

#define WHOLE 0
#define FIRST_FRAGMENT 1
#define LATER_FRAGMENT 2

#define ETHERNET 14
#define MOST_EXTENSIONS 4

/* Results of parse(). */
#define PARSED 0
#define NOT_IP 1
#define MALFORMED 2

struct packet {
	__u32 source[4], destination[4];
	__u16 sport, dport;
	__u8 v6, flags, protocol, fragment;
	/* Offsets from the start of the frame; length of the TCP options; length of the IP packet. */
	__u32 l4, options, total;
	__u32 id;
};

struct tcp_header {
	__be16 source, destination;
	__be32 sequence, acknowledgement;
	__u8 offset, flags;
	__be16 window, checksum, urgent;
};

struct ipv4_header {
	__u8 version_length, tos;
	__be16 total, id, fragment;
	__u8 ttl, protocol;
	__be16 checksum;
	__be32 source, destination;
};

struct ipv6_header {
	__be32 first;
	__be16 payload;
	__u8 next, hops;
	__be32 source[4], destination[4];
};

/* Of the monotonic clock, to a tick: a tenth of the price of the exact one. */
inline_ __u32 seconds(void)
{
	return bpf_ktime_get_coarse_ns() / 1000000000;
}

inline_ void words(__u32 to[4], const __be32 from[4])
{
	to[0] = bpf_ntohl(from[0]);
	to[1] = bpf_ntohl(from[1]);
	to[2] = bpf_ntohl(from[2]);
	to[3] = bpf_ntohl(from[3]);
}

/* Ports and flags of the TCP header at p->l4. */
inline_ int parse_tcp(void *data, void *end, struct packet *p)
{
	struct tcp_header *tcp = data + (p->l4 & 0x1ff);
	if ((void *)(tcp + 1) > end)
		return MALFORMED;
	p->sport = bpf_ntohs(tcp->source);
	p->dport = bpf_ntohs(tcp->destination);
	p->flags = tcp->flags;
	__u32 header = (tcp->offset >> 4) * 4;
	if (header < 20)
		return MALFORMED;
	p->options = header - 20;
	return PARSED;
}

inline_ int parse_ipv4(void *data, void *end, __u32 at, struct packet *p)
{
	struct ipv4_header *ip = data + (at & 0x1ff);
	if ((void *)(ip + 1) > end)
		return MALFORMED;
	__u32 header = (ip->version_length & 15) * 4;
	__u16 fragment = bpf_ntohs(ip->fragment);
	p->total = bpf_ntohs(ip->total);
	if (ip->version_length >> 4 != 4 || header < 20 || p->total < header)
		return MALFORMED;
	p->v6 = 0;
	p->source[0] = bpf_ntohl(ip->source);
	p->destination[0] = bpf_ntohl(ip->destination);
	p->source[1] = p->source[2] = p->source[3] = 0;
	p->destination[1] = p->destination[2] = p->destination[3] = 0;
	p->protocol = ip->protocol;
	p->id = bpf_ntohs(ip->id);
	p->fragment = fragment & 0x1fff ? LATER_FRAGMENT : fragment & 0x2000 ? FIRST_FRAGMENT : WHOLE;
	p->l4 = at + header;
	return PARSED;
}

inline_ int parse_ipv6(void *data, void *end, __u32 at, struct packet *p)
{
	struct ipv6_header *ip = data + (at & 0x1ff);
	if ((void *)(ip + 1) > end)
		return MALFORMED;
	if ((bpf_ntohl(ip->first) >> 28) != 6)
		return MALFORMED;
	p->v6 = 1;
	words(p->source, ip->source);
	words(p->destination, ip->destination);
	p->total = 40 + bpf_ntohs(ip->payload);
	p->fragment = WHOLE;
	__u8 next = ip->next;
	__u32 l4 = at + 40;
	for (int i = 0; i < MOST_EXTENSIONS; i++) {
		if (next != 0 && next != 43 && next != 60 && next != 44)
			break;
		__u8 *extension = data + (l4 & 0x1ff);
		if ((void *)(extension + 8) > end)
			return MALFORMED;
		if (next == 44) {
			__u16 offset = (extension[2] << 8) | extension[3];
			p->id = ((__u32)extension[4] << 24) | (extension[5] << 16) | (extension[6] << 8) | extension[7];
			p->fragment = offset & 0xfff8 ? LATER_FRAGMENT : offset & 1 ? FIRST_FRAGMENT : WHOLE;
			l4 += 8;
		} else {
			l4 += 8 * (1 + extension[1]);
		}
		next = extension[0];
		/* What follows a later fragment's header is payload. */
		if (p->fragment == LATER_FRAGMENT || l4 > 256)
			break;
	}
	p->protocol = next;
	p->l4 = l4;
	return l4 > 256 ? MALFORMED : PARSED;
}

/* The IP header of a frame. */
inline_ int parse(void *data, void *end, struct packet *p)
{
	__be16 *type = data + 12;
	if (data + ETHERNET > end)
		return NOT_IP;
	if (*type == bpf_htons(ETH_P_IP))
		return parse_ipv4(data, end, ETHERNET, p);
	if (*type == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(data, end, ETHERNET, p);
	return NOT_IP;
}

/* MurmurHash3, as src/hash.ts has it. */
inline_ __u32 mix(__u32 hash, __u32 word)
{
	__u32 k = word * 0xcc9e2d51;
	k = (k << 15) | (k >> 17);
	__u32 h = hash ^ (k * 0x1b873593);
	return ((h << 13) | (h >> 19)) * 5 + 0xe6546b64;
}

inline_ __u32 finish(__u32 h)
{
	h ^= h >> 16;
	h *= 0x85ebca6b;
	h ^= h >> 13;
	h *= 0xc2b2ae35;
	return h ^ (h >> 16);
}

inline_ __u32 mix_address(__u32 seed, const __u32 a[4])
{
	__u32 first = mix(seed, a[0]);
	return (a[1] | a[2] | a[3]) == 0 ? first : mix(mix(mix(first, a[1]), a[2]), a[3]);
}

inline_ __u32 hash_flow(const struct packet *p, __u32 seed)
{
	__u32 ports = ((__u32)p->sport << 16) | p->dport;
	return finish(mix(mix(mix_address(seed, p->source), ports), p->destination[0] ^ p->destination[3]));
}

inline_ __u32 hash_source(const struct packet *p, __u32 seed)
{
	return finish(mix(mix_address(seed, p->source), p->sport));
}

inline_ __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum + (__u16)(sum >> 16);
}
