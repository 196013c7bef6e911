/** Controllers by name. */
import { StackError } from '../../errors.ts';
import { Balia } from './balia.ts';
import type { CoupledGroup } from './group.ts';
import { Lia } from './lia.ts';
import { Olia } from './olia.ts';
import { WVegas } from './wvegas.ts';
import { Bbr } from '../../tcp/congestion/bbr.ts';
import { Cubic } from '../../tcp/congestion/cubic.ts';
import { NewReno } from '../../tcp/congestion/newreno.ts';
import type { CongestionControl, CongestionFactory } from '../../tcp/congestion/types.ts';

/** Makes a controller for a subflow that shares its connection's fate with the others of `group`. */
export type CoupledFactory = (group: CoupledGroup) => CongestionControl;

/** Controllers that look at one subflow only. */
export const CONGESTION_CONTROLLERS: Readonly<Record<string, CongestionFactory>> = {
  cubic: () => new Cubic(),
  newreno: () => new NewReno(),
  bbr: () => new Bbr(),
};

/** Controllers that couple the subflows of a connection. */
export const COUPLED_CONTROLLERS: Readonly<Record<string, CoupledFactory>> = {
  lia: (group) => new Lia(group),
  olia: (group) => new Olia(group),
  balia: (group) => new Balia(group),
  wvegas: (group) => new WVegas(group),
};

/** Resolves names; throws {@link StackError} `UNKNOWN_CONGESTION`. */
export function congestionFactory(choice: string | CongestionFactory): CongestionFactory {
  return typeof choice === 'function' ? choice : known(CONGESTION_CONTROLLERS, choice);
}

/** As {@link congestionFactory}; null for `none`: every subflow for itself. */
export function coupledFactory(choice: string | CoupledFactory): CoupledFactory | null {
  if (choice === 'none') return null;
  return typeof choice === 'function' ? choice : known(COUPLED_CONTROLLERS, choice);
}

function known<T>(table: Readonly<Record<string, T>>, name: string): T {
  const factory = Object.hasOwn(table, name) ? table[name] : undefined;
  if (factory === undefined) throw new StackError('UNKNOWN_CONGESTION', `unknown congestion controller "${name}"; expected ${Object.keys(table).join(', ')}`);
  return factory;
}
