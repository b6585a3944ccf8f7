import { start } from "./shell.js";
import { notice } from "./states.js";

start(async ({ main }) => {
  main.append(notice("Nothing waits for you", "Requests of agents appear here by themselves."));
});
