// The server under test, as the runner names it in the environment.
export const url = process.env.OCTAVO_SUITES_URL;
export const encoderUrl = process.env.OCTAVO_SUITES_ENCODER_URL;
export const MODEL = "demo";
export const ENCODER = "encoder";
export const SUM = "What is 17 plus 25?";
export const ANSWER = "17 plus 25 is 42.";
