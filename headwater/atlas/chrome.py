"""The words around a page's main text: navigation, adverts, cookie banners, comments and footers, per language."""

from __future__ import annotations

from dataclasses import dataclass

from headwater.atlas.world import LanguageCode


@dataclass(frozen=True)
class Site:
    """One invented site: its layout file, address, name and motto."""

    layout: str
    host: str
    name: str
    motto: str


@dataclass(frozen=True)
class Chrome:
    sites: tuple[Site, ...]
    nav: tuple[str, ...]
    sidebar: tuple[str, ...]
    adverts: tuple[str, ...]
    cookies: tuple[str, ...]
    comments: tuple[str, ...]
    readers: tuple[str, ...]
    footer: tuple[str, ...]
    authors: tuple[str, ...]
    words: dict[str, str]


CHROME: dict[LanguageCode, Chrome] = {
    "en": Chrome(
        sites=(Site("magazine", "www.towpath-post.example", "The Towpath Post", "Slow news from the riverbank"),
               Site("wiki", "atlas.openalmanac.example", "Open Almanac", "The almanac anyone may correct"),
               Site("blog", "wetboots.example", "Wet Boots", "Notes of a walker"),
               Site("portal", "www.seven-gates.example", "Seven Gates Travel", "Journeys at walking pace"),
               Site("gazette", "gazette.lamplight.example", "Lamplight Gazette", "Printed since the first frost")),
        nav=("Home", "Rivers", "Lakes", "Cities", "People", "Archive", "About us", "Contact", "Sign in", "Search",
             "Newsletter", "Shop", "Help"),
        sidebar=("Most read this week", "Recipes with barley", "Ferry timetable", "Weather for walkers",
                 "Photo of the day",
                 "How to fold a map", "Old coins for beginners", "Letters to the editor", "Ten quiet inns",
                 "Boots: a buyer's guide", "Crossword", "Lost and found"),
        adverts=("Hand-made rope, now 20 % off!", "Are your boots ready for autumn? Order online today.",
                 "Subscribe now and get the first month free.", "Win a weekend for two. No purchase necessary.",
                 "The kettle everybody is talking about. Buy one, get one free.", "Cheap coach tickets, book early!",
                 "Candles that smell of rain. Only this week.", "Download our app and never miss a ferry."),
        cookies=("We use cookies to improve your experience. Accept all / Manage settings",
                 "This site uses cookies. By continuing to browse you agree to our cookie policy.",
                 "Your privacy matters to us. Accept cookies or read more about how we use them."),
        comments=("Lovely page, thank you!", "First!", "Does anybody know when the ferry runs on Sundays?",
                  "I was there last year and it rained all week.", "Great write-up, shared it with my class.",
                  "The photo is upside down.", "Could you make the letters a bit bigger?",
                  "Typo in the second paragraph.",
                  "My aunt says hello.", "Bookmarked for later.", "More pages like this one, please."),
        readers=("lampwick", "barefoot_ben", "Old Carter", "mossy", "tea_for_two", "anon", "heron77", "Mrs. Plum"),
        footer=("All rights reserved.", "Terms of use", "Privacy policy", "Imprint", "Advertise with us", "Site map"),
        authors=("The editors", "A. Fennel", "R. Thistle", "The night desk", "J. Quill", "Guest author"),
        words={"home": "Home", "comments": "Comments", "related": "Related links", "share": "Share this page",
               "by": "By", "reply": "Reply", "advert": "Advertisement", "skip": "Skip to content",
               "updated": "Last updated"}),
    "zh": Chrome(
        sites=(Site("magazine", "www.hebian-wanbao.example", "河边晚报", "慢慢走，慢慢看"),
               Site("wiki", "baike.dizhi.example", "地志百科", "人人都能订正的百科"),
               Site("blog", "shixie.example", "湿鞋日记", "一个走路人的笔记"),
               Site("portal", "www.qimen-lvxing.example", "七门旅行网", "用脚步丈量的旅行"),
               Site("gazette", "bao.denghuo.example", "灯火报", "第一场霜以来每天出版")),
        nav=("首页", "河流", "湖泊", "城市", "人物", "资料库", "关于我们", "联系我们", "登录", "搜索", "订阅", "商店",
             "帮助"),
        sidebar=("本周热门", "大麦食谱", "渡船时刻表", "徒步天气", "每日一图", "地图怎么折", "古钱币入门", "读者来信",
                 "十家安静的客栈", "靴子选购指南", "填字游戏", "失物招领"),
        adverts=("手工麻绳，全场八折！", "秋天到了，您的靴子准备好了吗？马上下单。", "现在订阅，首月免费。",
                 "转发本页，赢取双人周末游。", "人人都在说的水壶，买一送一。", "便宜车票，早订早得！",
                 "雨水味的蜡烛，仅限本周。",
                 "下载手机应用，再也不会误船。"),
        cookies=("本站使用Cookie来改善您的体验。全部接受 / 管理设置", "继续浏览即表示您同意我们的Cookie政策。",
                 "我们重视您的隐私。接受Cookie或了解更多。"),
        comments=("写得真好，谢谢！", "沙发！", "有人知道星期天渡船几点开吗？", "去年去过，下了一星期的雨。",
                  "已经转给班上的同学了。",
                  "图片放反了。", "字能不能大一点？", "第二段有错别字。", "我姑妈向大家问好。", "先收藏了。",
                  "多写一些这样的文章吧。"),
        readers=("灯芯", "赤脚阿本", "老车夫", "青苔", "两杯茶", "匿名用户", "苍鹭七七", "梅子太太"),
        footer=("版权所有", "使用条款", "隐私政策", "版权声明", "广告合作", "网站地图"),
        authors=("编辑部", "茴香", "蓟草", "夜班编辑", "羽笔", "特约作者"),
        words={"home": "首页", "comments": "评论", "related": "相关链接", "share": "分享本页", "by": "作者",
               "reply": "回复",
               "advert": "广告", "skip": "跳到正文", "updated": "最后更新"}),
}
