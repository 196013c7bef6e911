/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Shapes of the balancer's maps; node/xdp/layout.ts writes them.
 */
#pragma once
#include "common.h"

#define MOST_SERVICES 64
#define SLOTS 65544
#define BUCKETS 4096
#define CHAIN_SECONDS 240
#define FIRST_SERVER_PORT 1024

enum design { STATEFUL, STATELESS, TOKEN_KEYS, TOKEN_LEARNED, DIRECT_ADDRESS, BEAMER };
enum forwarding { DSR, ENCAPSULATION };

/* Reasons, as DROP in src/core.ts (negated), and what the plane adds; index of a counter. */
enum reason {
	FORWARDED, NO_SERVER, NOT_OURS, BAD_PACKET, UNKNOWN_FRAGMENT, AMBIGUOUS_TOKEN, UNKNOWN_TOKEN, UNKNOWN_PORT, UNKNOWN_ERROR,
	TOO_BIG, COLLISIONS, LEARNT, FRAGMENTS, ERRORS, REASONS = 16
};

struct service_key {
	__u32 address[4];
	__u16 port, family;
};

struct service {
	__u32 id, seed;
	__u8 design, forwarding, spare[2];
};

struct server {
	__u32 address[4];
	__u8 mac[6], alive, v6;
	__u32 device, spare;
};

struct bucket {
	__u8 current, previous, spare[2];
	/* Seconds of the monotonic clock. */
	__u32 changed;
};

struct generation {
	__u32 number, slots, mtu, device;
	/* Of this balancer: where tunnels begin. */
	__u32 own4, own6[4];
	__u8 mac[6], spare[2];
	__u32 spare2;
	struct server server[256];
	struct bucket bucket[BUCKETS];
	__u8 slot[SLOTS];
	__u8 port[65536];
};

struct flow_key {
	__u32 source[4], ports, service;
};

struct flow {
	__u8 server, learnt, spare[2];
	__u32 seen;
};

struct token_key {
	__u32 token, service;
};

struct fragment_key {
	__u32 source[4], destination[4], id;
};

struct fragment {
	__u8 server, spare;
	__u16 port;
	__u32 seen;
};

/* `reason`: one of those above when no server is chosen. */
struct decision {
	__u8 server, previous;
	__u8 reason;
};
