/**
 * The look of a report: eight hues for paper and eight for dark screens, everything else is grey. Both sets were searched
 * for the largest smallest distance (OKLab) between any two as seen with normal, protan, deutan and tritan eyes (Machado,
 * Oliveira and Fernandes 2009), so they differ in lightness as much as in hue.
 */
const LIGHT = `
color-scheme:light;
--page:#fbfbf9;--surface:#fff;--ink:#1b1d20;--soft:#43474d;--muted:#6a6e75;--faint:#b4b8be;--line:#e3e3df;--grid:#ededea;
--good:#1d7a5c;--doubtful:#b06a00;--bad:#b3372e;--tint:#f3f4f2;--veil:#c6c9ce;
--c0:#1f6fb2;--c1:#d9730d;--c2:#26ae83;--c3:#79024a;--c4:#9a8efc;--c5:#415e0a;--c6:#4b1d8a;--c7:#9b4e66;`;

const DARK = `
color-scheme:dark;
--page:#131416;--surface:#1a1c1f;--ink:#ececea;--soft:#c3c6cb;--muted:#989ca4;--faint:#5b6068;--line:#2d3035;--grid:#27292e;
--good:#4fc39a;--doubtful:#e2a03f;--bad:#ef7d70;--tint:#202327;--veil:#41454c;
--c0:#5ba4e6;--c1:#f0953f;--c2:#0bd29a;--c3:#ae5177;--c4:#7b59cb;--c5:#947e28;--c6:#74f5fc;--c7:#ffdc4a;`;

export const STYLE = `
:root{${LIGHT}}
@media (prefers-color-scheme:dark){:root{${DARK}}}
@media screen{:root[data-theme=light]{${LIGHT}}:root[data-theme=dark]{${DARK}}}
@media print{:root{${LIGHT}--page:#fff}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.55 ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Liberation Sans",Arial,sans-serif;font-variant-numeric:tabular-nums}
header,main,footer{max-width:1128px;margin:0 auto;padding:0 24px}
header{padding-top:40px}
h1{font-size:34px;line-height:1.15;letter-spacing:-.018em;font-weight:650;margin:6px 0 10px;overflow-wrap:anywhere}
h2{font-size:21px;line-height:1.3;letter-spacing:-.01em;font-weight:650;margin:0 0 4px}
h3{font-size:14px;font-weight:600;margin:0}
p{margin:0}
.kicker{display:flex;justify-content:space-between;align-items:center;color:var(--muted);font-size:13px;letter-spacing:.01em}
.kicker span span{white-space:nowrap}
.summary{font-size:17px;line-height:1.55;max-width:72ch;color:var(--soft)}
.lead{color:var(--muted);max-width:82ch;margin-bottom:18px}
.note{color:var(--muted);font-size:13px;line-height:1.45}
button,select{font:inherit;font-size:12.5px;color:var(--soft);background:var(--surface);border:1px solid var(--line);border-radius:6px;padding:3px 9px;cursor:pointer}
button:hover,select:hover{border-color:var(--faint)}
button[aria-pressed=true]{color:var(--page);background:var(--soft);border-color:var(--soft)}
:focus-visible{outline:2px solid var(--c0);outline-offset:2px}
.verdict{display:flex;gap:12px;align-items:flex-start;margin:22px 0 0;padding:12px 16px;border:1px solid var(--line);border-left:4px solid var(--tone);border-radius:6px;background:var(--surface);max-width:82ch}
.verdict b{color:var(--tone)}
.verdict svg{flex:none;width:20px;height:20px;margin-top:2px;fill:none;stroke:var(--tone);stroke-width:2;stroke-linecap:round;stroke-linejoin:round}
.verdict.good{--tone:var(--good)}.verdict.doubtful{--tone:var(--doubtful)}.verdict.bad{--tone:var(--bad)}
.headline{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:1px;margin:26px 0 0;background:var(--line);border:1px solid var(--line);border-radius:8px;overflow:hidden}
.headline div{background:var(--surface);padding:13px 16px 12px}
.headline dt{color:var(--muted);font-size:13px}
.headline dd{margin:0}
.headline .figure{font-size:27px;line-height:1.25;font-weight:600;letter-spacing:-.02em;white-space:nowrap}
.headline .figure small{font-size:15px;font-weight:400;color:var(--muted);letter-spacing:0;margin-left:3px}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin:26px 0 0;padding:10px 0;border-top:1px solid var(--line);border-bottom:1px solid var(--line);font-size:13.5px}
a{color:var(--muted);text-decoration:none}
a:hover{color:var(--ink);text-decoration:underline}
section{padding:34px 0 10px}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,318px),1fr));gap:18px}
figure{margin:0;min-width:0}
.card{background:var(--surface);border:1px solid var(--line);border-radius:8px;padding:13px 15px 12px;display:flex;flex-direction:column}
.card .note{margin-top:auto;padding-top:8px}
.card h3 span{font-weight:400;color:var(--muted)}
.legend{display:flex;flex-wrap:wrap;gap:1px 14px;list-style:none;margin:3px 0 4px;padding:0;font-size:12.5px;line-height:1.5;color:var(--muted)}
.legend b{color:var(--ink);font-weight:600}
.legend i{display:inline-block;width:13px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
.legend i.pale{opacity:.4}
svg.plot{display:block;width:100%;height:auto;overflow:visible;touch-action:pan-y}
svg text{font-size:11px;fill:var(--muted)}
svg .label{fill:var(--muted)}
svg .remark{font-size:10.5px}
svg .rule{stroke:var(--grid);stroke-width:1}
svg .axis{stroke:var(--faint);stroke-width:1}
svg .reference{stroke:var(--muted);stroke-width:1;stroke-dasharray:3 3}
svg .curve{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
svg .pale{fill:none;stroke-width:1;opacity:.38}
svg .glyph{font-size:12.5px;font-weight:600;fill:var(--c0);cursor:default}
svg .dot{fill:var(--c0);fill-opacity:.75}
svg .cursor{visibility:hidden}
svg .cursor line{stroke:var(--muted);stroke-width:1}
svg .cursor circle{stroke:var(--surface);stroke-width:1.2}
.heat{fill:var(--c0)}.heat rect:hover{stroke:var(--ink)}
.heat-labels text{font-size:inherit}
svg .back{fill:var(--tint)}
.bars{display:grid;grid-template-columns:fit-content(46%) minmax(0,1fr) max-content;gap:5px 10px;align-items:center;font-size:13px;line-height:1.3}
.bars span{overflow-wrap:anywhere;color:var(--soft)}
.bars div{position:relative;height:15px;border-left:1px solid var(--faint)}
.bars i{display:block;height:100%;border-radius:0 2px 2px 0}
.bars u{position:absolute;top:4px;height:7px;border:solid var(--ink);border-width:0 1px;opacity:.7}
.bars u::after{content:"";position:absolute;left:0;right:0;top:3px;border-top:1px solid var(--ink)}
.bars b{font-weight:600;white-space:nowrap}
.card>.bars{margin-top:10px}
.probes{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,2.2fr);gap:20px 30px;align-items:center}
.even>.bars{grid-template-columns:150px minmax(0,1fr) 64px}
.probes .delta{font-size:13px;color:var(--good);font-weight:600}
.probes .less{color:var(--bad)}
.tiles{display:flex;flex-wrap:wrap;gap:8px}
.tile{width:var(--side,116px);flex:none;text-align:center;font-size:12px;line-height:1.35;color:var(--muted)}
.tile img,.tile svg{display:block;width:100%;height:auto;border-radius:4px;background:var(--tint)}
.tile span{display:block;margin-top:3px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.pixels{image-rendering:pixelated}
.tile.text{--side:230px;text-align:left}
.tile.text p{margin:0;padding:8px 10px;border-radius:4px;background:var(--tint);color:var(--ink,inherit);overflow-wrap:anywhere;max-height:9em;overflow:auto}
.words{max-width:64ch;line-height:1.9;white-space:pre-wrap}
.words mark{border-radius:3px;padding:1px 0;color:#111}
.samples{display:flex;flex-wrap:wrap;gap:22px 34px}
.masks .tile{--side:106px}
.masks svg:has(.block){overflow:visible}
.block{stroke-width:2.4;stroke-linejoin:round;fill-opacity:.26;filter:drop-shadow(0 0 .03px #000)}
.hidden{fill:var(--veil);fill-opacity:.94}
.neighbours{display:grid;gap:14px}
.neighbours>div{display:flex;gap:18px;align-items:flex-start}
.neighbours .tile{--side:92px}
.neighbours .query{position:relative}
.neighbours .query::after{content:"";position:absolute;right:-10px;top:4px;bottom:20px;border-right:1px solid var(--line)}
.right img{box-shadow:0 0 0 2px var(--page),0 0 0 4px var(--good)}
.wrong img{box-shadow:0 0 0 2px var(--page),0 0 0 4px var(--c1)}
.right,.wrong{padding:4px 3px 0}
.neighbours .query{padding-top:4px}
.right span,.wrong span{margin-top:6px}
.map{position:relative;display:grid;grid-template-columns:minmax(0,1fr) 222px;gap:0 18px}
.map .tools{grid-column:1/-1}
.map>canvas{display:block;width:100%;max-height:660px;background:var(--surface);border:1px solid var(--line);border-radius:8px;cursor:crosshair;touch-action:pan-y}
.tools{display:flex;flex-wrap:wrap;gap:6px;margin-bottom:10px;align-items:center}
.tools label{font-size:12.5px;color:var(--muted)}
.tools .gap{flex:1}
.tip{position:absolute;pointer-events:none;visibility:hidden;z-index:2;background:var(--surface);border:1px solid var(--line);border-radius:7px;padding:8px;font-size:12.5px;line-height:1.35;box-shadow:0 4px 18px rgb(0 0 0/.16);max-width:200px;overflow-wrap:anywhere}
.tip canvas{display:block;border-radius:4px;width:84px;height:84px;margin-bottom:5px;cursor:inherit}
.tip canvas[hidden]{display:none}
.groups{display:flex;flex-wrap:wrap;gap:4px;align-content:flex-start;max-height:660px;overflow:auto}
.groups button{padding:1px 8px 1px 6px;font-size:12px;border-radius:99px}
.groups button i{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:5px}
.groups button[aria-pressed=true]{color:var(--ink);background:var(--tint);border-color:var(--ink)}
.pair{display:grid;grid-template-columns:minmax(0,1.35fr) minmax(0,1fr);gap:18px;align-items:start}
.stack{display:grid;gap:18px}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px;line-height:1.4}
td,th{padding:6px 14px 6px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line);font-weight:400}
td:last-child,th:last-child{padding-right:0}
th[scope=row]{color:var(--muted);white-space:nowrap;width:1%}
thead th{color:var(--muted);font-size:12.5px}
.number{text-align:right;white-space:nowrap}
.path{overflow-wrap:anywhere}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;font-size:.9em}
pre{margin:0;overflow:auto;line-height:1.55;font-size:12.5px}
.yaml .key{color:var(--c0)}.yaml .comment{color:var(--muted)}
details{background:var(--surface);border:1px solid var(--line);border-radius:8px}
summary{cursor:pointer;padding:10px 15px;font-weight:600;font-size:14px}
details pre{padding:2px 15px 14px}
.steps{display:grid;gap:10px;list-style:none;margin:0;padding:0}
.steps li{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,2fr);gap:4px 18px;align-items:center}
.command{display:flex;align-items:center;gap:10px;background:var(--tint);border:1px solid var(--line);border-radius:6px;padding:7px 7px 7px 12px}
.command code{flex:1;overflow-wrap:anywhere}
.command button{flex:none}
.replay{display:grid;gap:18px;grid-template-columns:minmax(0,1fr)}
.replay .tools{margin:0}
.replay input[type=range]{flex:1;min-width:140px;accent-color:var(--c0)}
.replay output{font-size:12.5px;color:var(--muted);min-width:11em;text-align:right}
.scene{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1.15fr);gap:18px;align-items:start}
svg.plane{display:block;width:100%;height:auto;max-height:520px}
.plane text{fill:var(--soft)}
.plane .ground{fill:var(--tint)}
.plane .wall{fill:var(--faint)}
.plane .goal{fill:var(--c0);fill-opacity:.16}
.plane .danger{fill:var(--bad);fill-opacity:.07}
.plane .danger.now{fill-opacity:.38}
.plane polyline{fill:none}
.plane .proposal{stroke:var(--faint)}.plane circle.proposal{stroke:none;fill:var(--faint)}
.plane .course{stroke:var(--c1)}.plane circle.course{stroke:none;fill:var(--c1)}
.plane .subgoal{stroke:var(--c4);fill:none}
.plane .mover{fill:var(--c2)}
.plane .believed,.plane .unsure{fill:none;stroke:var(--c5)}
.plane .unsure{opacity:.5}
.plane .agent{fill:var(--c0)}
.told{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:7px 16px;align-items:baseline;font-size:13.5px;line-height:1.45}
.told dt{color:var(--muted)}
.told dd{margin:0;min-height:1.45em}
.told .bars{align-self:center}
.eye{display:block;width:84px;height:84px;image-rendering:pixelated;border-radius:4px;margin-bottom:4px}
canvas.strip{display:block;width:100%;height:120px;cursor:crosshair;touch-action:pan-y}
i.dot{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:8px}
.met{color:var(--good);font-weight:600;width:1%;white-space:nowrap}
.missed{color:var(--bad);font-weight:600;width:1%;white-space:nowrap}
footer{color:var(--muted);font-size:13px;padding-top:26px;padding-bottom:48px}
@media screen and (max-width:760px){
body{font-size:14.5px}
header,main,footer{padding-left:16px;padding-right:16px}
header{padding-top:22px}
h1{font-size:26px}
.summary{font-size:15.5px}
.headline{grid-template-columns:repeat(2,1fr)}
.headline .figure{font-size:23px}
.headline div:last-child:nth-child(odd){grid-column:1/-1}
section{padding-top:26px}
.map{grid-template-columns:minmax(0,1fr)}
.groups{margin-top:10px}
.pair,.steps li,.probes,.scene{grid-template-columns:minmax(0,1fr)}
.probes{gap:8px}
.probes>.bars+*{margin-top:18px}
.samples{gap:18px 8px}
.tile{--side:calc((100vw - 56px)/4)}
.masks .tile{--side:calc((100vw - 48px)/3)}
.neighbours .tile{--side:calc((100vw - 134px)/4);font-size:11px}
.neighbours .query{--side:66px}
.neighbours>div{gap:14px}
.neighbours .tiles{gap:6px}
.neighbours .query::after{right:-8px}
th[scope=row]{white-space:normal;width:34%}
}
@media print{
body{font-size:10pt;line-height:1.45}
header,main,footer{max-width:none;padding-left:0;padding-right:0}
header{padding-top:0}
h1{font-size:22pt}
.summary{font-size:11.5pt}
.summary,.lead,.verdict{max-width:none}
nav,.tools,.kicker button,.command button{display:none}
section{padding-top:16pt}
.lead{margin-bottom:10pt}
h2,.lead{break-inside:avoid;break-after:avoid}
figure,.card,.samples>*,.neighbours>*,tr,.steps li,.verdict,.headline{break-inside:avoid}
.grid{grid-template-columns:repeat(2,1fr)}
.headline{grid-template-columns:repeat(auto-fit,minmax(110px,1fr))}
.headline div{padding:9px 11px}
.headline .figure{font-size:19px}
.tile{--side:74px}
.masks .tile{--side:78px}
.samples{gap:14px 22px}
.neighbours .tile{--side:62px}
.neighbours .tiles{flex-wrap:nowrap;gap:5px}
.map{grid-template-columns:minmax(0,1fr) 130px}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
`;
