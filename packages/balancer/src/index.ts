/** Floor 4: the published designs of load balancers for Multipath TCP, as decision cores. Pure. */
export { Balancer } from './balancer.ts';
export { BeamerCore, CHAIN_TIME, FIRST_SERVER_PORT } from './beamer.ts';
export type { BucketTable } from './beamer.ts';
export { DROP, DROP_NAMES } from './core.ts';
export type { DecisionCore } from './core.ts';
export { DirectAddressCore } from './direct-address.ts';
export { DEFAULT_LIFETIMES, ENTRY, FlowTable } from './flow-table.ts';
export type { Lifetimes } from './flow-table.ts';
export { hashFlow, hashPair, hashSource, hashText } from './hash.ts';
export { MAGLEV_SIZE, TABLE_SIZE, TABLES } from './lookup-tables.ts';
export type { TableBuilder, TableKind } from './lookup-tables.ts';
export { BalancerError, ServerSet } from './servers.ts';
export type { Server, ServerState } from './servers.ts';
export { StatefulCore } from './stateful.ts';
export { StatelessCore } from './stateless.ts';
export { idOfTimestamp, idOfToken, keyFor, stampTimestamp, TokenKeysCore } from './token-keys.ts';
export { TokenLearnedCore } from './token-learned.ts';
