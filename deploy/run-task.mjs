// Start a build on Fargate. Needs @aws-sdk/client-ecs; an API server imports or copies `startBuild`.
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { ECSClient, RunTaskCommand } from "@aws-sdk/client-ecs";

// --- secrets
// Words in a variable's name that mark its value as a secret. KEY marks one only after a word of KEY_WORDS. buildrunner
// redacts by the same rule (docs/security.md).
const SECRET_WORDS = /^(TOKEN|SECRETS?|PASSWORD|PASSWD|PASS|PASSPHRASE|CREDENTIALS?|JWT|PAT)$/;
const KEY_WORDS = /^(API|ACCESS|PRIVATE|SECRET|SIGNING|ENCRYPTION|DEPLOY|SERVICE|ROLE|MASTER|SSH|HMAC)$/;

/** Return whether a variable must not be an override: overrides are visible in DescribeTasks. */
const isSecret = (name, value) => {
  const words = (name.match(/[A-Z]+(?![a-z])|[A-Z]?[a-z]+/g) ?? []).map((word) => word.toUpperCase());
  return (
    name === "REDIS_URI" ||
    name === "WEBHOOK_URL" ||
    words.some((word) => SECRET_WORDS.test(word)) ||
    words.at(-1) === "AUTH" ||
    words.some((word, i) => word === "KEY" && i > 0 && KEY_WORDS.test(words[i - 1])) ||
    /^[a-z+]+:\/\/[^/]*@/i.test(value) // an address with a password or a token
  );
};
// ---

// --- retries
// How ECS says that it throttles, also in the name of EC2, and that it has no room; `buildrunner submit` retries the same.
const THROTTLED_CODES = new Set([
  ...["EC2ThrottledException", "PriorRequestNotComplete", "RequestLimitExceeded", "RequestThrottled"],
  ...["RequestThrottledException", "SlowDown", "ThrottledException", "Throttling", "ThrottlingException"],
  "TooManyRequestsException",
]);
const THROTTLED = /rate exceeded|request limit exceeded|too many requests|throttl/i;
const CAPACITY = new RegExp(
  "capacity is unavailable|no capacity|insufficient capacity|limit on the number of (tasks|vcpus)" +
    "|unable to place a task|timeout waiting for .* provisioning|^RESOURCE:|^AGENT$",
  "i",
);
const RETRY_SECONDS = 300;

/** Return whether ECS has no room; false for another error that a retry may not meet, null for what would fail again. */
const lacksCapacity = (code, message, status) => {
  if (THROTTLED_CODES.has(code) || status === 429 || THROTTLED.test(message)) return false;
  if (CAPACITY.test(message)) return true;
  return status >= 500 ? false : null;
};
// --- retries

const newBuildId = () =>
  `${new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-")}-${randomBytes(8).toString("hex")}`;

/**
 * Start a build and return its BUILD_ID and the task's ARN. Repeating a BUILD_ID starts no second task.
 *
 * Throttling and lack of capacity are retried with jittered backoff for up to 5 minutes. `ecs` is an ECSClient. `variables`
 * are the environment: REPO_URL, SLUG and other variables of this build. `capacity` is FARGATE, or FARGATE_SPOT, which gives
 * way to FARGATE where it has no room; `publicIp` is ENABLED in a subnet without NAT.
 */
export async function startBuild(
  ecs,
  variables,
  { cluster, subnets, securityGroups, taskDefinition = "buildrunner", capacity = "FARGATE", publicIp = "DISABLED" },
) {
  const buildId = variables.BUILD_ID || newBuildId();
  const unsafe = Object.keys(variables).filter((name) => isSecret(name, variables[name]));
  if (unsafe.length) throw new Error(`secrets must not be overrides: ${unsafe.join(", ")}`);
  const environment = Object.entries({ ...variables, BUILD_ID: buildId }).map(([name, value]) => ({ name, value }));
  const until = Date.now() + RETRY_SECONDS * 1000;
  let launches = 0;
  for (let retries = 0; ; retries++) {
    let error, lacks;
    try {
      const answer = await ecs.send(
        new RunTaskCommand({
          cluster,
          taskDefinition,
          capacityProviderStrategy: [{ capacityProvider: capacity, weight: 1 }],
          networkConfiguration: { awsvpcConfiguration: { subnets, securityGroups, assignPublicIp: publicIp } },
          overrides: { containerOverrides: [{ name: "buildrunner", environment }] },
          // The same until ECS has answered: a lost answer must not start a second task.
          clientToken: launches ? `${buildId.slice(0, 58)}-${launches}` : buildId,
          startedBy: buildId, // so that ListTasks finds a build's task
          tags: [{ key: "slug", value: variables.SLUG }],
          propagateTags: "TASK_DEFINITION",
          enableExecuteCommand: false,
        }),
      );
      if (answer.tasks?.length) return { buildId, taskArn: answer.tasks[0].taskArn };
      launches++; // ECS reports this with status 200
      error = new Error(`ECS started no task: ${JSON.stringify(answer.failures)}`);
      lacks = lacksCapacity("", answer.failures?.[0]?.reason ?? "", 200);
    } catch (caught) {
      error = caught;
      lacks = lacksCapacity(caught.name ?? "", caught.message ?? "", caught.$metadata?.httpStatusCode ?? 0);
    }
    const pause = Math.random() * Math.min(20, 2 * 2 ** Math.min(retries, 9)) * 1000; // full jitter
    if (lacks === null || Date.now() + pause > until) throw error;
    if (lacks) capacity = "FARGATE";
    await sleep(pause);
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const option = { type: "string" };
  const { values, positionals } = parseArgs({
    options: { cluster: option, subnets: option, "security-groups": option },
    allowPositionals: true,
  });
  const variables = Object.fromEntries(positionals.map((pair) => pair.split(/=(.*)/s).slice(0, 2)));
  const started = await startBuild(new ECSClient({}), variables, {
    cluster: values.cluster,
    subnets: values.subnets.split(","),
    securityGroups: values["security-groups"].split(","),
  });
  console.log(started.buildId, started.taskArn);
}
