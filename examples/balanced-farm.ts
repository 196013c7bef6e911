/** A load balancer in virtual time: four servers of our stack, real packets, a new server while connections are open. */
import { BeamerCore, EmulatedFarm, StatelessCore } from '@subflow/balancer';

for (const beamer of [false, true]) {
  const farm = new EmulatedFarm({
    seed: 1,
    design: (seed) => (beamer ? new BeamerCore(4096, seed) : new StatelessCore('maglev', seed)),
    forwarding: beamer ? 'encapsulation' : 'dsr',
    announce: beamer ? 'own-port' : 'nothing',
    servers: 4,
    active: 3,
  });
  for (let i = 0; i < 40; i++) {
    farm.connect();
    farm.run(20_000);
  }
  farm.run(2e6);
  const before = farm.facts();
  farm.change(farm.set.with({ s4: { id: 4, weight: 1, state: 'active' } }));
  farm.run(10e6);
  const after = farm.facts();
  console.log(`${beamer ? 'Beamer' : 'Maglev'}: ${before.joined} of 40 joins found their server; a new server: ${before.alive - after.alive} connections lost`);
}
