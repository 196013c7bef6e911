import { KernelPathWorld } from './kernel-path.ts';
const world = new KernelPathWorld(3);
try {
  await world.startAndWait(world.server, process.execPath, ['packages/cli/bin/subflow.mjs', 'probe', '--serve', '8443']);
  if (process.env.NFT) world.routers[1]!.run('sh', '-c', `nft '${process.env.NFT}'`);
  if (process.env.NFTF) { const { execFileSync } = await import('node:child_process'); execFileSync('ip', ['netns', 'exec', world.routers[1]!.name, 'nft', '-f', '-'], { input: process.env.NFTF }); }
  const t = Date.now();
  const r = await world.run(world.client, process.execPath, ['packages/cli/bin/subflow.mjs', 'probe', `${process.env.V6 ? `[${world.serverAddress6}]` : world.serverAddress}:8443`, ...process.argv.slice(2)]);
  console.log(r.stdout, r.stderr, r.code, Date.now() - t);
} finally { world.remove(); }
