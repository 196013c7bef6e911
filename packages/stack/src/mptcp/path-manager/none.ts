/** No path management: one subflow, unless the application or the peer opens more. */
import type { PathManagerFactory } from './types.ts';

export const noPathManager: PathManagerFactory = () => ({ name: 'none' });
