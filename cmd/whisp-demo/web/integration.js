import { post } from "./http.js"; // fetch that throws what went wrong
import { Whisp } from "./whisp-client.js"; // in your app: from "whisp-sdk"

export const whisp = new Whisp({ baseUrl: `${location.origin}/whisp` }); // 1

export async function startChat() {
  whisp.setAuth(await post("/auth/whisp/sign-in")); // 2
  await whisp.connect(); // 3
}
