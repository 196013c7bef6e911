/** `node --import tsx --import ./bench/against-register.mjs`: with the packages of the checkout that SUBFLOW_BENCH_PACKAGES names. */
import { register } from 'node:module';

register('./against-resolve.mjs', import.meta.url, { data: { directory: process.env.SUBFLOW_BENCH_PACKAGES } });
