/** Floor 2: links, queues, loss and hosts in virtual time, with one seed. Pure. */
export { Agenda } from './agenda.ts';
export { Chain } from './chain.ts';
export type { ChainConfig, ChainEnd } from './chain.ts';
export { PLAIN_ROUTER, Router } from './router.ts';
export type { RouterConfig } from './router.ts';
export { Link, LinkDirection, PERFECT_LINK } from './link.ts';
export type { LinkConfig, LinkCounters, LinkDropReason, LinkTap, LossModel, PacketFilter } from './link.ts';
export * from './middlebox/index.ts';
export { EmulatedHost } from './node.ts';
export type { HostClock, PacketSink } from './node.ts';
export { Random } from './random.ts';
export { parseScenario, ScenarioError, validateScenario } from './scenario.ts';
export type { Scenario, ScenarioPath, ScenarioStep } from './scenario.ts';
export { parseDuration, parseProbability, parseRate, parseSize } from './units.ts';
