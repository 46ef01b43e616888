import { writePage } from './page.ts';
import { comparison } from './report.ts';

/* Makes docs/performance.md anew from the results that are there. */

comparison('page', writePage);
