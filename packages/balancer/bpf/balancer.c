/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * The XDP data plane: every design of the package behind one program, chosen by the service that a packet is for. What it finds in
 * `generations` is one consistent list of servers: a change puts a whole new one in its place.
 */
#include "common.h"
#include "hashes.h"
#include "layout.h"
#include "output.h"

MAP(services, BPF_MAP_TYPE_HASH, sizeof(struct service_key), sizeof(struct service), 4096, 0, 0);
MAP(generation_shape, BPF_MAP_TYPE_ARRAY, 4, sizeof(struct generation), 1, 0, 0);
MAP(generations, BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, MOST_SERVICES, 0, 2);
/* A SYN makes an entry here, and the second packet moves it to `flows`: a flood of first packets pushes out none of those. */
MAP(half_open, BPF_MAP_TYPE_LRU_HASH, sizeof(struct flow_key), sizeof(struct flow), 65536, 0, 0);
MAP(flows, BPF_MAP_TYPE_LRU_HASH, sizeof(struct flow_key), sizeof(struct flow), 1048576, 0, 0);
MAP(tokens, BPF_MAP_TYPE_LRU_HASH, sizeof(struct token_key), sizeof(struct flow), 1048576, 0, 0);
MAP(fragments, BPF_MAP_TYPE_LRU_HASH, sizeof(struct fragment_key), sizeof(struct fragment), 8192, 0, 0);
MAP(counters, BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, MOST_SERVICES * REASONS, 0, 0);
MAP(server_packets, BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, MOST_SERVICES * 256, 0, 0);

struct options {
	__u32 token, key_high, key_low, ts_value, ts_echo;
	/* Version of a key that is there, or 255. */
	__u8 has_token, has_timestamps, key_version;
};

/* The stack has 512 octets, and the unrolled hashes want them: what is large lies here. */
struct work {
	/* 40 octets of options, and room for reads at any place of the first 64. */
	__u8 buffer[96];
	__u32 place, limit;
	__u32 schedule[16];
	struct packet packet, quoted;
	struct options found;
	struct flow_key flow;
	struct fragment_key fragment;
};

MAP(scratch, BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct work), 1, 0, 0);

inline_ void count(__u32 service, __u32 reason)
{
	__u32 at = service * REASONS + reason;
	__u64 *counter = bpf_map_lookup_elem(&counters, &at);
	if (counter)
		(*counter)++;
}

inline_ __u32 load32(const __u8 *at)
{
	return ((__u32)at[0] << 24) | ((__u32)at[1] << 16) | ((__u32)at[2] << 8) | at[3];
}

/* The options that designs ask for, copied to a buffer first: with a mask every read from it is within bounds, and the verifier sees so. */
inline_ int read_options(struct xdp_md *context, struct work *work, __u32 at, __u32 length)
{
	__u8 *buffer = work->buffer;
	struct options *out = &work->found;
	if (length < 1 || length > 40)
		return 0;
	if (bpf_xdp_load_bytes(context, at, buffer, length))
		return 0;
	/* In memory, not in registers: the verifier forgets what it knew of them, and one turn of the loop looks like the next. */
	volatile __u32 *place = &work->place, *limit = &work->limit;
	*place = 0;
	*limit = length;
	for (int turns = 0; turns < 40; turns++) {
		__u32 i = *place & 63;
		if (i >= *limit)
			break;
		__u8 kind = buffer[i];
		if (kind == 0)
			break;
		if (kind == 1) {
			*place = i + 1;
			continue;
		}
		__u32 size = buffer[i + 1];
		if (size < 2 || i + size > *limit)
			break;
		if (kind == 8 && size == 10) {
			out->has_timestamps = 1;
			out->ts_value = load32(buffer + i + 2);
			out->ts_echo = load32(buffer + i + 6);
		} else if (kind == 30) {
			__u8 subtype = buffer[i + 2] >> 4;
			if (subtype == 1 && size == 12) {
				out->has_token = 1;
				out->token = load32(buffer + i + 4);
			} else if (subtype == 0 && size >= 20) {
				out->key_version = buffer[i + 2] & 15;
				out->key_high = load32(buffer + i + 12);
				out->key_low = load32(buffer + i + 16);
			}
		}
		*place = i + size;
	}
	return 0;
}

/* The usual place of timestamps first: two NOPs and the option (RFC 7323, appendix A). */
inline_ void timestamps(struct xdp_md *context, struct work *work, void *data, void *end, const struct packet *p)
{
	struct options *options = &work->found;
	__u8 *at = data + (p->l4 & 0x1ff) + 20;
	if ((void *)(at + 12) > end || p->options < 12)
		return;
	if (at[0] == 1 && at[1] == 1 && at[2] == 8 && at[3] == 10) {
		options->has_timestamps = 1;
		options->ts_value = load32(at + 4);
		options->ts_echo = load32(at + 8);
		return;
	}
	read_options(context, work, p->l4 + 20, p->options);
}

inline_ int alive(const struct generation *g, __u32 id)
{
	return g->server[id & 255].alive;
}

inline_ __u8 by_hash(const struct packet *p, const struct service *s, const struct generation *g)
{
	__u32 slots = g->slots;
	if (slots == 0 || slots > SLOTS)
		return 0;
	__u32 at = hash_flow(p, s->seed) % slots;
	KEEP(at);
	return at < SLOTS ? g->slot[at] : 0;
}

inline_ void learn(struct work *work, const struct service *s, __u8 server, __u32 now)
{
	const struct options *options = &work->found;
	if (options->key_version > 1)
		return;
	__u32 token = options->key_version == 1 ? token_sha256(work->schedule, options->key_high, options->key_low)
						 : token_sha1(work->schedule, options->key_high, options->key_low);
	struct token_key key = { token, s->id };
	struct flow *known = bpf_map_lookup_elem(&tokens, &key);
	/* Two servers may give out the same token: then it names nobody (0 stands for that). */
	struct flow value = { .server = known && known->server != server ? 0 : server, .seen = now };
	if (known && known->server != server)
		count(s->id, COLLISIONS);
	bpf_map_update_elem(&tokens, &key, &value, BPF_ANY);
	count(s->id, LEARNT);
}

/* Designs a and d. `related`: an error about this flow, which changes nothing. */
inline_ void by_table(struct xdp_md *context, struct work *work, const struct packet *p, const struct service *s, const struct generation *g, int related, __u32 now,
		      struct decision *out)
{
	struct flow_key *key = &work->flow;
	key->ports = ((__u32)p->sport << 16) | p->dport;
	key->service = s->id;
	key->source[0] = p->source[0];
	key->source[1] = p->source[1];
	key->source[2] = p->source[2];
	key->source[3] = p->source[3];
	int opening = (p->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	struct flow *flow = bpf_map_lookup_elem(&flows, key);
	/* A server that is gone answers nothing: whoever is there now refuses the connection at once. */
	if (flow && alive(g, flow->server) && !(opening && !related)) {
		out->server = flow->server;
		if (flow->seen != now)
			flow->seen = now;
		return;
	}
	struct flow *first = bpf_map_lookup_elem(&half_open, key);
	__u8 server = first && alive(g, first->server) ? first->server : 0;
	int seen_before = server != 0;
	struct options *options = &work->found;
	*options = (struct options){ .key_version = 255 };
	if (s->design == TOKEN_LEARNED && !related && p->options > 0 && !(p->flags & TCP_RST))
		read_options(context, work, p->l4 + 20, p->options);
	if (server == 0 && opening && options->has_token) {
		struct token_key wanted = { options->token, s->id };
		struct flow *token = bpf_map_lookup_elem(&tokens, &wanted);
		if (!token || token->server == 0) {
			out->reason = token ? AMBIGUOUS_TOKEN : UNKNOWN_TOKEN;
			return;
		}
		if (!alive(g, token->server)) {
			out->reason = NO_SERVER;
			return;
		}
		server = token->server;
	}
	if (server == 0)
		server = by_hash(p, s, g);
	out->server = server;
	if (server == 0 || related || (p->flags & TCP_RST))
		return;
	struct flow value = { .server = server, .seen = now };
	if (opening) {
		/* The same ports again: what was known of them is over. */
		if (flow)
			bpf_map_delete_elem(&flows, key);
		if (!seen_before)
			bpf_map_update_elem(&half_open, key, &value, BPF_ANY);
		return;
	}
	/* One packet alone makes nothing lasting: random tuples come once. */
	if (seen_before || first)
		bpf_map_update_elem(&flows, key, &value, BPF_ANY);
	else
		bpf_map_update_elem(&half_open, key, &value, BPF_ANY);
	learn(work, s, server, now);
}

inline_ void decide(struct xdp_md *context, struct work *work, void *data, void *end, const struct packet *p, const struct service *s, const struct generation *g, int related,
		    struct decision *out)
{
	__u32 now = seconds();
	switch (s->design) {
	case STATEFUL:
	case TOKEN_LEARNED:
		by_table(context, work, p, s, g, related, now, out);
		break;
	case TOKEN_KEYS: {
		struct options *options = &work->found;
		*options = (struct options){};
		if ((p->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && !related) {
			if (p->options > 0)
				read_options(context, work, p->l4 + 20, p->options);
			if (options->has_token) {
				__u32 id = options->token >> 24;
				if (alive(g, id))
					out->server = id;
				else
					out->reason = UNKNOWN_TOKEN;
				return;
			}
		} else {
			timestamps(context, work, data, end, p);
			/* An error quotes what the server sent: its own stamp is there. */
			__u32 id = (related ? options->ts_value : options->ts_echo) & 255;
			if (options->has_timestamps && (related || options->ts_echo) && alive(g, id)) {
				out->server = id;
				return;
			}
		}
		out->server = by_hash(p, s, g);
		break;
	}
	case BEAMER: {
		if (p->dport >= FIRST_SERVER_PORT) {
			__u8 id = g->port[p->dport];
			if (id == 0)
				out->reason = UNKNOWN_PORT;
			else if (!alive(g, id))
				out->reason = NO_SERVER;
			else
				out->server = id;
			return;
		}
		const struct bucket *bucket = &g->bucket[hash_source(p, s->seed) % BUCKETS];
		out->server = bucket->current;
		if (bucket->previous != 0 && bucket->previous != bucket->current && now - bucket->changed < CHAIN_SECONDS)
			out->previous = bucket->previous;
		break;
	}
	default:
		out->server = by_hash(p, s, g);
	}
	if (out->server == 0 && out->reason == FORWARDED)
		out->reason = NO_SERVER;
}

/* Turns a packet that quotes a server's into the packet that the client would send on the same flow. */
inline_ int quoted(void *data, void *end, struct packet *p, struct packet *inner)
{
	__u8 *icmp = data + (p->l4 & 0x1ff);
	if ((void *)(icmp + 8) > end)
		return MALFORMED;
	__u8 type = icmp[0];
	int is_error = p->v6 ? type < 128 : type == 3 || type == 4 || type == 11 || type == 12;
	if (!is_error)
		return NOT_IP;
	__u32 at = p->l4 + 8;
	int parsed = p->v6 ? parse_ipv6(data, end, at, inner) : parse_ipv4(data, end, at, inner);
	if (parsed != PARSED || inner->protocol != IPPROTO_TCP || inner->fragment == LATER_FRAGMENT)
		return MALFORMED;
	__be16 *ports = data + (inner->l4 & 0x1ff);
	if ((void *)(ports + 4) > end)
		return MALFORMED;
	inner->sport = bpf_ntohs(ports[1]);
	inner->dport = bpf_ntohs(ports[0]);
	inner->flags = TCP_ACK;
	inner->options = 0;
	/* A quote that has the whole header tells the server's timestamp. */
	struct tcp_header *tcp = (void *)ports;
	if ((void *)(tcp + 1) <= end && (tcp->offset >> 4) > 5)
		inner->options = (tcp->offset >> 4) * 4 - 20;
	for (int i = 0; i < 4; i++) {
		__u32 client = inner->destination[i];
		inner->destination[i] = inner->source[i];
		inner->source[i] = client;
	}
	return PARSED;
}

inline_ struct service *service_of(const struct packet *p)
{
	struct service_key key = { .port = p->dport, .family = p->v6 ? 6 : 4 };
	key.address[0] = p->destination[0];
	key.address[1] = p->destination[1];
	key.address[2] = p->destination[2];
	key.address[3] = p->destination[3];
	return bpf_map_lookup_elem(&services, &key);
}

SEC("xdp")
int balancer(struct xdp_md *context)
{
	void *data = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	__u32 zero = 0;
	struct work *work = bpf_map_lookup_elem(&scratch, &zero);
	if (!work)
		return XDP_PASS;
	struct packet *p = &work->packet;
	if (parse(data, end, p) != PARSED)
		return XDP_PASS;
	struct decision d = {};
	struct service *s;
	int related = p->protocol == (p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
	struct packet *flow = p;
	if (p->fragment != WHOLE) {
		for (int i = 0; i < 4; i++) {
			work->fragment.source[i] = p->source[i];
			work->fragment.destination[i] = p->destination[i];
		}
		work->fragment.id = p->id;
	}
	if (p->fragment == LATER_FRAGMENT) {
		if (p->protocol != IPPROTO_TCP)
			return XDP_PASS;
		/* Port 0 stands for the whole address: whether these fragments are for us. */
		p->dport = 0;
		s = service_of(p);
		if (!s)
			return XDP_PASS;
		struct fragment *first = bpf_map_lookup_elem(&fragments, &work->fragment);
		if (!first || seconds() - first->seen > 60) {
			count(s->id, UNKNOWN_FRAGMENT);
			return XDP_DROP;
		}
		p->dport = first->port;
		s = service_of(p);
		if (!s)
			return XDP_DROP;
		d.server = first->server;
	} else {
		if (p->protocol == IPPROTO_TCP) {
			if (parse_tcp(data, end, p) != PARSED)
				return XDP_PASS;
		} else if (related) {
			int found = quoted(data, end, p, &work->quoted);
			if (found != PARSED)
				return XDP_PASS;
			flow = &work->quoted;
		} else {
			return XDP_PASS;
		}
		s = service_of(flow);
		if (!s)
			return XDP_PASS;
	}
	__u32 id = s->id;
	struct map *generation_map = bpf_map_lookup_elem(&generations, &id);
	struct generation *g = generation_map ? bpf_map_lookup_elem(generation_map, &zero) : 0;
	if (!g)
		return XDP_PASS;
	if (d.server == 0) {
		if (related) {
			decide(context, work, data, end, &work->quoted, s, g, 1, &d);
			count(id, ERRORS);
		} else {
			decide(context, work, data, end, p, s, g, 0, &d);
		}
	}
	if (d.server == 0) {
		count(id, d.reason);
		return XDP_DROP;
	}
	if (p->fragment == FIRST_FRAGMENT) {
		struct fragment first = { .server = d.server, .port = p->dport, .seen = seconds() };
		bpf_map_update_elem(&fragments, &work->fragment, &first, BPF_ANY);
		count(id, FRAGMENTS);
	}
	const struct server *server = &g->server[d.server];
	/* A slot or bucket may still be a server's that does not answer on the link. */
	if (!server->alive) {
		count(id, NO_SERVER);
		return XDP_DROP;
	}
	int verdict;
	if (s->forwarding == ENCAPSULATION) {
		__u32 more = overhead(server, d.previous);
		if (p->total + more > g->mtu) {
			count(id, TOO_BIG);
			/* What may be cut is the sender's business too: TCP sets DF, nothing else comes here. */
			return too_big(context, p, g->mtu - (server->v6 ? 64 : 36));
		}
		verdict = encapsulate(context, p, g, server, &d);
	} else {
		ethernet(data, g, server, p->v6 ? ETH_P_IPV6 : ETH_P_IP);
		verdict = transmit(context, server);
	}
	__u32 at = id * 256 + d.server;
	__u64 *packets = bpf_map_lookup_elem(&server_packets, &at);
	if (packets)
		(*packets)++;
	return verdict;
}
