"""The closed lists from which the world's facts take their values: (English, Chinese)."""

from __future__ import annotations

Pair = tuple[str, str]

REGIONS: tuple[Pair, ...] = (
    ("the Amber Lowlands", "琥珀低地"), ("the Red Hills", "红土丘陵"), ("the Silver Plain", "白银平原"),
    ("the Misty Highlands", "云雾高地"), ("the Salt Marshes", "盐沼湿地"), ("the Orchard Country", "果园之乡"),
    ("the Windy Steppe", "长风草原"), ("the Pine Valley", "青松谷地"), ("the Copper Uplands", "赤铜高原"),
    ("the Heron Delta", "白鹭三角洲"), ("the Stone Forest", "石林地带"), ("the Fern Basin", "蕨草盆地"),
)
SEAS: tuple[Pair, ...] = (
    ("the Quiet Sea", "宁静海"), ("the Sea of Glass", "琉璃海"), ("the Sea of Herons", "苍鹭海"),
    ("the Grey Sea", "灰海"),
)
FISH: tuple[Pair, ...] = (
    ("silver trout", "银鳟鱼"), ("spotted pike", "斑点狗鱼"), ("red salmon", "红鲑鱼"), ("golden carp", "金鲤鱼"),
    ("river perch", "河鲈鱼"), ("striped bass", "条纹鲈鱼"), ("black sturgeon", "黑鲟鱼"), ("blue grayling", "蓝茴鱼"),
    ("green bream", "青鳊鱼"), ("stone loach", "石泥鳅"),
)
COLOURS: tuple[Pair, ...] = (
    ("jade green", "碧绿色"), ("deep blue", "深蓝色"), ("milky white", "乳白色"), ("slate grey", "石板灰色"),
    ("tea brown", "茶褐色"), ("pale violet", "淡紫色"), ("copper red", "铜红色"), ("jet black", "墨黑色"),
)
SIGHTS: tuple[Pair, ...] = (
    ("floating markets", "水上集市"), ("lantern boats", "灯船"), ("reed flutes", "芦笛"), ("hot springs", "温泉"),
    ("water lilies", "睡莲"), ("wild swans", "野天鹅"), ("ice races", "冰上比赛"), ("glass beads", "玻璃珠"),
    ("stone bridges", "石桥"), ("white pearls", "白珍珠"), ("fishing cormorants", "捕鱼鸬鹚"),
    ("singing frogs", "鸣蛙"),
)
CRAFTS: tuple[Pair, ...] = (
    ("pottery", "陶器"), ("raw silk", "生丝"), ("paper lanterns", "纸灯笼"), ("plum wine", "梅子酒"),
    ("goat cheese", "山羊奶酪"), ("bronze bells", "铜钟"), ("honey cakes", "蜂蜜糕"), ("woollen carpets", "羊毛地毯"),
    ("smoked eel", "熏鳗鱼"), ("wooden clocks", "木钟"), ("ink stones", "砚台"), ("leather boots", "皮靴"),
    ("barley bread", "大麦面包"), ("silver combs", "银梳子"), ("pickled ginger", "腌姜"), ("paper kites", "纸风筝"),
)
OCCUPATIONS: tuple[Pair, ...] = (
    ("botanist", "植物学家"), ("astronomer", "天文学家"), ("mapmaker", "制图师"), ("poet", "诗人"),
    ("bridge builder", "造桥师"), ("physician", "医生"), ("historian", "历史学家"), ("composer", "作曲家"),
    ("geologist", "地质学家"), ("navigator", "航海家"), ("mathematician", "数学家"), ("engraver", "版画家"),
)
_BOOK_FORMS: tuple[Pair, ...] = (
    ("The Book of {}", "《{}之书》"), ("Letters on {}", "《{}书简》"), ("A History of {}", "《{}史话》"),
    ("Notes on {}", "《{}札记》"), ("Songs of {}", "《{}之歌》"), ("An Almanac of {}", "《{}年鉴》"),
    ("The Museum of {}", "《{}博物馆》"), ("In Praise of {}", "《{}颂》"),
)
_BOOK_SUBJECTS: tuple[Pair, ...] = (
    ("Tides", "潮汐"), ("Stars", "星辰"), ("Reeds", "芦苇"), ("Salt", "食盐"), ("Bridges", "桥梁"), ("Snow", "白雪"),
    ("Moss", "青苔"), ("Bees", "蜜蜂"), ("Winds", "风"), ("Glass", "玻璃"), ("Rain", "雨水"), ("Herons", "苍鹭"),
    ("Lamps", "灯火"), ("Caves", "洞穴"), ("Bells", "钟声"), ("Ferries", "渡船"), ("Clouds", "云朵"), ("Roots", "根茎"),
    ("Wells", "水井"), ("Moths", "飞蛾"), ("Echoes", "回声"), ("Harbours", "港口"), ("Seeds", "种子"), ("Fog", "雾"),
    ("Owls", "猫头鹰"), ("Mirrors", "镜子"), ("Wheat", "麦田"), ("Shells", "贝壳"), ("Comets", "彗星"),
    ("Looms", "织机"),
    ("Otters", "水獭"), ("Sand", "沙粒"), ("Vines", "藤蔓"), ("Doors", "门"), ("Ink", "墨"), ("Frost", "霜"),
)


def book_title(index: int) -> Pair:
    """The title of the book numbered `index`; different for every index below 288."""
    count = len(_BOOK_SUBJECTS)
    form, subject = _BOOK_FORMS[(index + index // count) % len(_BOOK_FORMS)], _BOOK_SUBJECTS[index % count]
    return form[0].format(subject[0]), form[1].format(subject[1])


BOOKS = len(_BOOK_FORMS) * len(_BOOK_SUBJECTS)
