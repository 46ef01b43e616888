import { isReliveError, ReliveError } from '../core/error.ts';
import type { CandidateTest } from '../image/candidate.ts';
import type { Profile } from '../site/profile.ts';
import type { Site } from '../site/site.ts';
import { requireTestTools, type TestResult, testFirmwares, testImage } from './test.ts';

/** What a test needs is looked for before the work begins. @throws ReliveError `tool-missing`, `host-unable` */
async function requireTools({ architecture, host, boot }: Profile): Promise<void> {
  if (host === 'container') return;
  try {
    await requireTestTools(architecture, testFirmwares({ architecture, boot }));
  } catch (error) {
    if (!isReliveError(error, 'tool-missing', 'host-unable')) throw error;
    throw new ReliveError(error.code, `the next image could not be tested: ${error.message}`, {
      hint: [error.hint, '--no-test publishes without a test']
        .filter((part) => part !== undefined)
        .join('; '),
      cause: error,
    });
  }
}

/** The test of the next image of a profile, and what it found once it has run. */
export interface UpdateTest {
  readonly test: CandidateTest;
  readonly result: () => TestResult | undefined;
}

/**
 * Prepares the test that an image has to pass before it is published; consoles are kept with the candidate.
 * @param textOf what is told of an image that does not pass
 * @throws ReliveError `tool-missing`, `host-unable`
 */
export async function updateTest(
  site: Site,
  profile: Profile,
  textOf: (result: TestResult) => string,
): Promise<UpdateTest> {
  await requireTools(profile);
  let tested: TestResult | undefined;
  return {
    test: async ({ store, image }, context) => {
      tested = await testImage({ ...site, store }, image, { consoles: store }, context);
      return { passed: tested.passed, summary: textOf(tested) };
    },
    result: () => tested,
  };
}
