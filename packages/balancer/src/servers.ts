/** The servers of a service: one generation of the list that every balancer agrees on. */

/** `draining`: keeps what it has, gets nothing new. `down`: gets nothing at all. */
export type ServerState = 'active' | 'draining' | 'down';

export interface Server {
  /** Small and stable, 1 to 255: it travels in timestamps, tokens and ports. */
  id: number;
  name: string;
  /** Share of new connections, relative to the others; 0 gets none. */
  weight: number;
  state: ServerState;
}

/** A mistake in a list of servers: a stable code, the value, what was expected. */
export class BalancerError extends Error {
  readonly code: 'BAD_SERVER' | 'BAD_DESIGN' | 'BAD_SIZE';

  constructor(code: BalancerError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

export class ServerSet {
  readonly generation: number;
  readonly servers: readonly Server[];
  private readonly byId: (Server | undefined)[] = [];

  /** Throws {@link BalancerError} `BAD_SERVER`. */
  constructor(servers: readonly Server[], generation = 1) {
    const names = new Set<string>();
    for (const server of servers) {
      if (!Number.isInteger(server.id) || server.id < 1 || server.id > 255)
        throw new BalancerError('BAD_SERVER', `server "${server.name}" has id ${server.id}; expected 1 to 255`);
      if (this.byId[server.id] !== undefined)
        throw new BalancerError(
          'BAD_SERVER',
          `servers "${this.byId[server.id]!.name}" and "${server.name}" both have id ${server.id}; expected different ones`,
        );
      if (names.has(server.name)) throw new BalancerError('BAD_SERVER', `two servers are named "${server.name}"; expected different names`);
      if (!(server.weight >= 0 && server.weight <= 65_535))
        throw new BalancerError('BAD_SERVER', `server "${server.name}" has weight ${server.weight}; expected 0 to 65535`);
      names.add(server.name);
      this.byId[server.id] = server;
    }
    this.generation = generation;
    this.servers = servers;
  }

  server(id: number): Server | undefined {
    return this.byId[id];
  }

  /** Whether packets of existing connections may still go there. */
  alive(id: number): boolean {
    const server = this.byId[id];
    return server !== undefined && server.state !== 'down';
  }

  /** Servers that take new connections. */
  get takers(): Server[] {
    return this.servers.filter((one) => one.state === 'active' && one.weight > 0);
  }

  /** The next generation with some servers changed, added or (null) taken out. */
  with(changes: Readonly<Record<string, Partial<Server> | null>>): ServerSet {
    const next: Server[] = [];
    for (const server of this.servers) {
      const change = changes[server.name];
      if (change === null) continue;
      next.push({ ...server, ...change });
    }
    for (const [name, change] of Object.entries(changes)) {
      if (change === null || this.servers.some((one) => one.name === name)) continue;
      next.push({ id: 0, weight: 1, state: 'active', ...change, name });
    }
    return new ServerSet(next, this.generation + 1);
  }
}
