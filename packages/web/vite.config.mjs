// The page: static files that need no server, workers and all.
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const here = dirname(fileURLToPath(import.meta.url));

export default defineConfig({
  root: join(here, 'page'),
  // Opened from anywhere, also from a folder of somebody else's server.
  base: './',
  resolve: { conditions: ['subflow-source', 'browser', 'module', 'import', 'default'] },
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact' },
  worker: { format: 'es' },
  build: { outDir: join(here, 'dist', 'page'), emptyOutDir: true, target: 'es2022', sourcemap: false, assetsInlineLimit: 0, reportCompressedSize: true },
  logLevel: 'warn',
});
