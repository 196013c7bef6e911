/** "Am I using Multipath TCP?" as a server. */
export { escapeHtml } from './html.ts';
export { SiteError } from './errors.ts';
export { startSite } from './server.ts';
export type { Site, SiteOptions } from './server.ts';
export { Statistics } from './statistics.ts';
export type { DayStatistics } from './statistics.ts';
export { verdictOf } from './verdict.ts';
export type { LostAt, Verdict } from './verdict.ts';
