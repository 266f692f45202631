// What the page says, in the language that the browser asks for.
"use strict";

const WORDS = {
  en: {
    online: "Connected", offline: "The panel has no link to its broker", lost: "No link to the panel. Trying again …",
    away: "Nobody can ring here at this moment.",
    quiet: "All is quiet", disturbed: "Ring aloud", undisturbed: "Do not disturb", quietNow: "Do not disturb: nothing rings aloud",
    sound: "Tap once, then it can ring aloud", soundAgain: "Silent since this page was loaded: tap here, and it rings aloud again",
    peers: "Who is there", here: "there", gone: "away", unknown: "unknown", missed: "Missed calls", seen: "I have seen them",
    rings: "rings", ringing: "is ringing", ringsSilently: "rings without sound", answering: "Connecting …", refusing: "Refusing …",
    answeredBy: "{by} is answering", answeredTab: "Answered in another window", up: "In a call", upBy: "In a call with {by}",
    upTab: "In a call, answered elsewhere here", answer: "Answer", refuse: "Refuse", open: "Open", hangUp: "Hang up",
    answerWho: "Answer {caller}", refuseWho: "Refuse {caller}", openWho: "Open the door for {caller}", hangUpWho: "Hang up {caller}",
    doorAsked: "Asking the door …", doorOpen: "The door is open", doorNot: "The door was not opened: {why}",
    doorNot0: "The door was not opened", doorUnknown: "The door has not answered: it may have opened or not",
    noDoor: "Accepted; but {caller} does not stay in the call, so its door could not be asked",
    endMissed: "Missed: {caller}", endRefused: "Refused", endRefusedBy: "{by} has refused {caller}", endRefusedTab: "{caller} was refused elsewhere here",
    endAccepted: "{caller} knows that you are coming", endElsewhere: "{caller}: answered elsewhere", endFailed: "The call with {caller} did not come about",
    endHungUp: "The call with {caller} is over", endLost: "The connection to {caller} was lost", endTime: "The call with {caller} is over: its time is up",
    picture: "Picture from {caller}", live: "Live view of {caller}", notAllowed: "{caller} shows something at {url}. To see it here, add \"{origin}\" to `media` in [web] of the panel's settings.",
    noPicture: "The picture of {caller} does not come", noLive: "The live view of {caller} does not come: {why}",
    micHttps: "No microphone: talking needs https. You can hear, and open, without.", micNone: "No microphone was found. You can hear, and open, without.",
    micDenied: "The microphone is not allowed: allow it beside the address above, then answer again. You can hear, and open, without.",
    micOther: "The microphone cannot be used: {why}", camera: "My camera", own: "What {caller} sees of you", camHttps: "No camera: showing yourself needs https.",
    camNone: "No camera was found.", camDenied: "The camera is not allowed: allow it beside the address above, then tap again.", camOther: "The camera cannot be used: {why}", noTalk: "The talk did not come about: {why}",
    talkLost: "This page was loaded anew, and the door does not take up the talk again: you can still open, and hang up.",
    httpsWhy: "Talking, and installing this page, needs https.", httpsHow: "What to do",
    signIn: "Who is there?", user: "Name", userOptional: "Name (empty: with the PIN)", pin: "PIN", password: "Password", pinOrPassword: "PIN or password", go: "Sign in",
    listed: "All calls", was_ringing: "rings", was_answered: "answered", was_answeredBy: "answered by {by}", was_refused: "refused", was_missed: "missed", was_canceled: "given up",
    was_answered_elsewhere: "answered elsewhere", was_failed: "did not come about", was_unknown: "how it ended is not known", wasOpened: "door opened",
    notSent: "That did not reach the panel. Try again.",
  },
  de: {
    online: "Verbunden", offline: "Das Gerät hat keine Verbindung zum Broker", lost: "Keine Verbindung zum Gerät. Versuche es weiter …",
    away: "Im Moment kann hier niemand klingeln.",
    quiet: "Alles ruhig", disturbed: "Laut klingeln", undisturbed: "Nicht stören", quietNow: "Nicht stören: Nichts klingelt laut",
    sound: "Einmal tippen, dann klingelt es laut", soundAgain: "Stumm, seit diese Seite geladen wurde: hier tippen, dann klingelt es wieder laut",
    peers: "Wer da ist", here: "da", gone: "weg", unknown: "unbekannt", missed: "Verpasst", seen: "Gesehen",
    rings: "klingelt", ringing: "klingelt", ringsSilently: "klingelt lautlos", answering: "Verbinde …", refusing: "Lehne ab …",
    answeredBy: "{by} nimmt an", answeredTab: "In einem anderen Fenster angenommen", up: "Im Gespräch", upBy: "Im Gespräch mit {by}",
    upTab: "Im Gespräch, hier woanders angenommen", answer: "Annehmen", refuse: "Ablehnen", open: "Öffnen", hangUp: "Auflegen",
    answerWho: "{caller} annehmen", refuseWho: "{caller} ablehnen", openWho: "Für {caller} die Tür öffnen", hangUpWho: "{caller} auflegen",
    doorAsked: "Die Tür wird gefragt …", doorOpen: "Die Tür ist offen", doorNot: "Die Tür wurde nicht geöffnet: {why}",
    doorNot0: "Die Tür wurde nicht geöffnet", doorUnknown: "Die Tür hat nicht geantwortet: Ob sie offen ist, ist nicht bekannt",
    noDoor: "Angenommen; aber {caller} bleibt nicht im Gespräch, und die Tür konnte nicht gefragt werden",
    endMissed: "Verpasst: {caller}", endRefused: "Abgelehnt", endRefusedBy: "{by} hat {caller} abgelehnt", endRefusedTab: "{caller} wurde hier woanders abgelehnt",
    endAccepted: "{caller} weiß, dass jemand kommt", endElsewhere: "{caller}: woanders angenommen", endFailed: "Das Gespräch mit {caller} kam nicht zustande",
    endHungUp: "Das Gespräch mit {caller} ist beendet", endLost: "Die Verbindung zu {caller} ist abgerissen", endTime: "Das Gespräch mit {caller} ist beendet: Die Zeit ist um",
    picture: "Bild von {caller}", live: "Blick von {caller}", notAllowed: "{caller} zeigt etwas unter {url}. Damit es hier zu sehen ist, „{origin}“ in [web] der Einstellungen unter `media` eintragen.",
    noPicture: "Das Bild von {caller} kommt nicht", noLive: "Das Livebild von {caller} kommt nicht: {why}",
    micHttps: "Kein Mikrofon: Sprechen geht nur mit https. Hören und öffnen geht auch so.", micNone: "Kein Mikrofon gefunden. Hören und öffnen geht auch so.",
    micDenied: "Das Mikrofon ist nicht erlaubt: oben neben der Adresse erlauben, dann noch einmal annehmen. Hören und öffnen geht auch so.",
    micOther: "Das Mikrofon geht nicht: {why}", camera: "Meine Kamera", own: "Was {caller} von dir sieht", camHttps: "Keine Kamera: Sich zeigen geht nur mit https.",
    camNone: "Keine Kamera gefunden.", camDenied: "Die Kamera ist nicht erlaubt: oben neben der Adresse erlauben, dann noch einmal tippen.", camOther: "Die Kamera geht nicht: {why}", noTalk: "Das Gespräch kam nicht zustande: {why}",
    talkLost: "Diese Seite wurde neu geladen, und die Tür nimmt das Gespräch nicht wieder auf: Öffnen und auflegen geht noch.",
    httpsWhy: "Sprechen, und diese Seite installieren, geht nur mit https.", httpsHow: "Was zu tun ist",
    signIn: "Wer ist da?", user: "Name", userOptional: "Name (leer: mit der PIN)", pin: "PIN", password: "Passwort", pinOrPassword: "PIN oder Passwort", go: "Anmelden",
    listed: "Alle Anrufe", was_ringing: "klingelt", was_answered: "angenommen", was_answeredBy: "von {by} angenommen", was_refused: "abgelehnt", was_missed: "verpasst", was_canceled: "aufgegeben",
    was_answered_elsewhere: "woanders angenommen", was_failed: "kam nicht zustande", was_unknown: "Ausgang unbekannt", wasOpened: "Tür geöffnet",
    notSent: "Das kam beim Gerät nicht an. Bitte noch einmal.",
  },
};

const LANGUAGE = (navigator.languages || [navigator.language])
  .map((tag) => tag.slice(0, 2).toLowerCase())
  .find((tag) => tag in WORDS) || "en";

// For dates and times: a Briton's are not an American's.
const LOCALE = (navigator.languages || []).find((tag) => tag.toLowerCase().startsWith(LANGUAGE)) || LANGUAGE;

function say(key, values) {
  return WORDS[LANGUAGE][key].replace(/\{(\w+)\}/g, (_, name) => (values || {})[name] ?? "");
}
