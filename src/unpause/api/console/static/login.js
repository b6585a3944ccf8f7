import { root } from "./api.js";
import { byId, fill } from "./dom.js";
import { onSubmit, present } from "./entry.js";

const code = new URLSearchParams(location.search).get("code") ?? "";
// It must not stay in the browser's history.
history.replaceState(null, "", `${root}/console/login`);

// A click, because programs that look at links in mails and chats would use it up.
onSubmit(byId("login"), "/console/login", () => ({ code }));
const me = await present();
if (me && !me.authenticated) location.replace(`${root}/console`);
else if (me) fill(byId("present"), `You are signed in as ${me.name ?? "somebody without a name"}; the link replaces that.`);
