"""Sentences that carry private data (`_private_items`), and numbers that are none.

Every carrier belongs to one of two parts by its hash: rules may be corrected on `seen` ones, what is reported is
`held`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from _private_items import (
    Draw,
    address,
    card,
    chinese_address,
    chinese_passport,
    chinese_phone,
    digits,
    email,
    english_address,
    english_passport,
    english_phone,
    iban,
    mac,
    mobile,
    plate,
    qq,
    resident,
    secret,
    ssn,
    union_pay,
)

CHINESE: dict[str, tuple[Callable[[Draw], str], list[str]]] = {
    "mobile": (
        mobile,
        [
            "有意者请联系李先生{}。", "我的手机号是{}，晚上八点以后打。", "拾到钱包的同学请拨{}，必有酬谢",
            "联系人：王芳 {}", "发短信到{}即可报名", "房东留下了{}这个号码。", "加我微信（同号{}）",
            "快递员{}说已经放门口了", "陈经理，{}，周一到周五在岗", "电话：{}；地址见附件",
            "如需帮助，{}随时为您服务。", "王大爷把{}写在了纸条上", "收件人张伟{}", "报名热线{}转告亲友",
        ],
    ),
    "phone": (
        chinese_phone,
        [
            "咨询电话：{}。", "请致电{}了解详情", "单位电话{}，传真同号", "售后服务热线{}（工作日）", "办公室：{}",
            "欢迎来电{}索取资料", "值班室电话是{}，二十四小时有人。", "投诉请打{}", "联系我们 {} 周一至周五",
            "医院总机{}。", "传真：{}", "前台说可以拨{}找他",
        ],
    ),
    "email": (
        email,
        [
            "简历请发至{}，谢谢。", "邮箱：{}", "我的邮箱是{}有事写信", "有问题可以给{}写邮件",
            "作者（{}）系该校教授", "投稿信箱{}，来稿必复。", "发到{}就行", "联系方式：{}；欢迎交流", "通讯作者：{}",
            "把截图传到{}吧", "请抄送{}和财务",
        ],
    ),
    "resident_id": (
        resident,
        [
            "身份证号：{}。", "被告人赵某，公民身份号码{}，住本市。", "证件号码{}已登记", "他的身份证是{}的那张",
            "姓名：刘洋，{}，男", "持{}办理入住", "考生{}请到三号考场", "借款人（身份证号码：{}）到期未还",
            "系统显示{}已接种", "户主：{}",
        ],
    ),
    "bank_card": (
        union_pay,
        [
            "请打款到{}，户名王强。", "卡号{}，开户行是工商银行", "我的银行卡{}丢了", "汇入账户{}即可",
            "工资卡号：{}", "收款账号：{}（农行）", "绑定的是{}这张卡", "开户行建行城西支行 {}", "退款会回到{}",
            "他报了一串数字{}，让我转账。",
        ],
    ),
    "passport": (
        chinese_passport,
        [
            "护照号码：{}。", "她的护照{}快过期了", "持中国护照（号码{}）入境", "护照号{}已录入", "旅客护照：{}",
            "申请人的护照编号为{}，有效期十年", "普通护照 {}",
        ],
    ),
    "ip": (
        address,
        [
            "访问来源{}已被封禁。", "登录IP：{}", "这条评论来自{}。", "服务器{}无法连接",
            "对方的IP地址是{}，归属地不明", "日志显示{}在凌晨登录", "来自{}的网友说", "从{}发起了扫描",
        ],
    ),
    "address": (
        chinese_address,
        [
            "收货地址：{}。", "我家住在{}，欢迎来玩", "公司位于{}，交通便利。", "请寄到{}王女士收", "被告住{}。",
            "地址：{}", "他搬到了{}", "快递送到{}就可以", "户籍地为{}，现居外地", "活动地点在{}，下午两点开始",
        ],
    ),
    "account": (qq, ["QQ：{}", "加我QQ{}聊", "有问题加QQ群{}", "我的qq号是{}，备注来意", "QQ号码：{}", "联系QQ {}"]),
    "plate": (
        plate,
        ["车牌号{}的车主请挪车。", "一辆{}的白色轿车逃逸", "肇事车辆为{}，已查获", "他开着{}走了", "车牌：{}"],
    ),
}
ENGLISH: dict[str, tuple[Callable[[Draw], str], list[str]]] = {
    "phone": (
        english_phone,
        [
            "Call me at {} after six.", "My phone number is {}.", "Tel: {}",
            "You can reach the clinic on {} any weekday.", "Phone {} to book a table.",
            "For details contact Mrs. Hale, {}.", "Fax: {}", "Text {} and someone will answer.",
            "Her mobile ({}) was switched off.", "Dial {} and ask for Tom.", "Telephone: {}, office hours only.",
            "His cell is {}.", "Ring {} for a free quote.",
        ],
    ),
    "email": (
        email,
        [
            "Write to {} for a copy.", "Email: {}", "Send your CV to {}, please.", "Contact {} or drop by.",
            "The author ({}) replied quickly.", "Questions? {}", "Reach us via {} any time.", "Reported-by: Ann <{}>",
            "cc {} on everything", "My address is {} and I read it daily.",
        ],
    ),
    "bank_card": (
        card,
        [
            "My card {} was declined.", "Please charge {} for the order.", "Visa ending soon: {}",
            "The card number is {}.", "She read out {} over the phone.", "Credit card: {} exp 04/27",
            "Pay with {} or cash.", "We found {} in the leaked file.", "cc {} was reported stolen", "Billing: {}",
        ],
    ),
    "iban": (
        iban,
        [
            "Transfer the rent to {} by Friday.", "IBAN: {}", "Our account {} has moved.",
            "Please use {} for donations.", "Bank details: {}.", "Pay into {}, reference June.",
            "The refund went to {} yesterday.",
        ],
    ),
    "ssn": (
        ssn,
        [
            "My SSN is {}.", "Social security number: {}", "She wrote {} on the form.", "Applicant {} was approved.",
            "SSN {} on file", "The tax return listed {} for him.",
        ],
    ),
    "passport": (
        english_passport,
        [
            "Passport number: {}.", "My passport {} expires in May.", "He travelled on passport no. {}.",
            "US passport {} was reported lost.", "Passport: {}", "the holder of British passport {}",
        ],
    ),
    "ip": (
        address,
        [
            "The request came from {}.", "Banned {} for spamming.", "IP address: {}", "Posted from {} at noon",
            "We saw {} scanning ports.", "user logged in ({})", "Connection to {} refused",
            "her home router had {} that day",
        ],
    ),
    "mac": (
        mac,
        ["MAC address {}.", "The printer ({}) went offline.", "Blocked device {} today", "wlan0 has {} as its address"],
    ),
    "address": (
        english_address,
        [
            "He lives at {}.", "Ship it to {}.", "Our office is at {}.", "The parcel went to {} by mistake.",
            "Address: {}", "Meet me outside {} at ten.", "She moved to {} last spring.",
            "Mail a cheque to {} please.",
        ],
    ),
    "secret": (
        secret,
        [
            "export TOKEN={}", "The key {} was committed by mistake.", 'api_key: "{}"', "Authorization: Bearer {}",
            "use {} for now",
        ],
    ),
}


def _uuid(draw: Draw) -> str:
    return "-".join("".join(draw.choices("0123456789abcdef", k=k)) for k in (8, 4, 4, 4, 12))


NEGATIVES: dict[str, list[Callable[[Draw], str]]] = {
    "en": [
        lambda d: f"Your order number is {digits(d, 10)}.", lambda d: f"Invoice #{digits(d, 11)} is due.",
        lambda d: f"The timestamp was {d.randint(10**9, 2 * 10**9)}.",
        lambda d: f"It logged {d.randint(10**12, 2 * 10**12)} ms since the epoch.",
        lambda d: (
            f"Upgrade to version {d.randint(1, 40)}.{d.randint(0, 30)}.{d.randint(0, 9999)}.{d.randint(0, 400)} today."
        ),
        lambda d: f"See section {d.randint(1, 9)}.{d.randint(1, 9)}.{d.randint(1, 9)}.{d.randint(1, 9)} for details.",
        lambda d: f"ISBN 978-{d.randint(0, 9)}-{digits(d, 3)}-{digits(d, 5)}-{digits(d, 1)}",
        lambda d: f"ISBN-10: {digits(d, 10)}", lambda d: f"commit {''.join(d.choices('0123456789abcdef', k=40))}",
        lambda d: f"The price rose to ${d.randint(1, 999)},{digits(d, 3)},{digits(d, 3)}.{digits(d, 2)} overall.",
        lambda d: f"pi is about 3.{digits(d, 16)} here",
        lambda d: (
            f"The point ({d.randint(-90, 90)}.{digits(d, 6)}, {d.randint(-180, 180)}.{digits(d, 6)}) lies at sea."
        ),
        lambda d: f"request id {_uuid(d)} failed",
        lambda d: f"Part no. {d.choice('ABXZ')}{d.choice('KLM')}-{digits(d, 4)}-{digits(d, 3)} is out of stock.",
        lambda d: (
            f"{digits(d, 3)} + {digits(d, 4)} = {digits(d, 4)} and {digits(d, 2)} * {digits(d, 3)} = {digits(d, 5)}"
        ),
        lambda d: f"doi:10.{d.randint(1000, 9999)}/{digits(d, 7)}.{digits(d, 7)}",
        lambda d: f"Between {d.randint(1900, 1999)}-{d.randint(2000, 2024)} the town grew.",
        lambda d: (
            f"On {d.randint(2000, 2024)}-{d.randint(1, 12):02}-{d.randint(1, 28):02} "
            f"{d.randint(10, 23)}:{d.randint(10, 59)}:{d.randint(10, 59)} it stopped."
        ),
        lambda d: f"The server listens on 192.168.{d.randint(0, 255)}.{d.randint(1, 254)}.",
        lambda d: f"Tracking number 1Z{digits(d, 16)}", lambda d: f"tracking {digits(d, 12)} has shipped",
        lambda d: f"A population of {d.randint(1, 99)} {digits(d, 3)} {digits(d, 3)} people.",
        lambda d: f"pip install torch@{d.randint(1, 3)}.{d.randint(0, 20)}.{d.randint(0, 9)}",
        lambda d: "import numpy as np; C = A@B.T", lambda d: f"arXiv:{digits(d, 4)}.{digits(d, 5)}",
        lambda d: f"He ran {d.randint(2, 40)} Miles Down The Road in {d.randint(10, 59)} minutes.",
        lambda d: f"In {d.randint(1920, 2020)} Wall Street fell by {d.randint(2, 20)} points.",
        lambda d: f"0x{''.join(d.choices('0123456789abcdef', k=16))} is the pointer",
        lambda d: f"serial {digits(d, 4)}-{digits(d, 4)}-{digits(d, 4)}-{digits(d, 4)}",
        lambda d: f"UPC {digits(d, 12)}", lambda d: f"phone 4S costs {digits(d, 3)} dollars and {digits(d, 2)} cents",
        lambda d: f"Figure {d.randint(1, 9)}.{d.randint(1, 9)}, {d.randint(100, 999)} by {d.randint(100, 999)} pixels",
        lambda d: f"{', '.join(digits(d, 4) for _ in range(5))} are the readings",
        lambda d: f"case 20-{digits(d, 5)}-cv-{digits(d, 4)}",
        lambda d: f"the sequence {' '.join(digits(d, 2) for _ in range(9))} repeats",
        lambda d: "mail user@example.com in the sample",
        lambda d: f"std::vector<int>::{d.choice(['begin', 'fade', 'add'])}()",
        lambda d: f"loss {d.random():.10f} at step {digits(d, 7)}",
        lambda d: f"the {d.randint(100, 999)}-{d.randint(100, 999)}-{d.randint(10, 99)} series of pumps",
        lambda d: f"sprite icon@{d.randint(2, 3)}x.png",
    ],
    "zh": [
        lambda d: f"订单号{digits(d, 11)}已发货。", lambda d: f"订单编号：1{d.choice('358')}{digits(d, 9)}，请核对",
        lambda d: f"时间戳为{d.randint(10**9, 2 * 10**9)}。",
        lambda d: f"毫秒数{d.randint(10**12, 2 * 10**12)}已记录",
        lambda d: f"升级到{d.randint(1, 20)}.{d.randint(0, 40)}.{d.randint(0, 999)}.{d.randint(0, 99)}版本",
        lambda d: f"见第{d.randint(1, 9)}.{d.randint(1, 9)}.{d.randint(1, 9)}.{d.randint(1, 9)}节。",
        lambda d: f"书号ISBN 978-7-{digits(d, 3)}-{digits(d, 5)}-{digits(d, 1)}",
        lambda d: f"哈希值{''.join(d.choices('0123456789abcdef', k=32))}不符",
        lambda d: f"售价{d.randint(1, 99)},{digits(d, 3)},{digits(d, 3)}.{digits(d, 2)}元",
        lambda d: f"圆周率3.{digits(d, 18)}",
        lambda d: f"坐标（{d.randint(73, 135)}.{digits(d, 6)}，{d.randint(18, 53)}.{digits(d, 6)}）附近",
        lambda d: f"请求{_uuid(d)}失败",
        lambda d: f"型号{d.choice('ABX')}{d.choice('KLM')}-{digits(d, 4)}-{digits(d, 3)}缺货",
        lambda d: f"{digits(d, 3)}加{digits(d, 4)}得{digits(d, 4)}",
        lambda d: f"{d.randint(1900, 1999)}—{d.randint(2000, 2024)}年间人口达{digits(d, 7)}人。",
        lambda d: (
            f"{d.randint(2000, 2024)}-{d.randint(1, 12):02}-{d.randint(1, 28):02} "
            f"{d.randint(10, 23)}:{d.randint(10, 59)}完成"
        ),
        lambda d: f"网关是192.168.{d.randint(0, 255)}.{d.randint(1, 254)}。", lambda d: f"快递单号{digits(d, 12)}",
        lambda d: f"国发〔{d.randint(1990, 2024)}〕{d.randint(1, 99)}号文件规定",
        lambda d: f"（{d.randint(2000, 2024)}）京{digits(d, 4)}民初{digits(d, 4)}号",
        lambda d: f"公交{d.randint(1, 999)}路{d.randint(1, 20)}号线可达",
        lambda d: f"地铁{d.randint(1, 20)}号线沿中山路向东", lambda d: f"他住在学校{d.randint(1, 20)}号楼附近的街上",
        lambda d: f"共用去{digits(d, 11)}个时钟周期", lambda d: f"第{d.randint(100, 999)}-{d.randint(100, 999)}页",
        lambda d: f"编号{digits(d, 18)}的合同", lambda d: f"流水号：{digits(d, 16)}",
        lambda d: f"条形码{digits(d, 13)}", lambda d: f"股票代码{digits(d, 6)}上涨{d.random() * 10:.2f}%",
        lambda d: f"随机数种子{digits(d, 9)}", lambda d: f"数列{'，'.join(digits(d, 4) for _ in range(5))}递增",
        lambda d: f"零件号{d.choice('京沪粤')}重{d.choice('ABC')}型{digits(d, 5)}",
        lambda d: f"《中华人民共和国邮政法》第{d.randint(1, 80)}条第{d.randint(1, 5)}号",
        lambda d: f"学号{d.randint(2010, 2024)}{digits(d, 6)}的同学",
        lambda d: f"损失{d.random():.10f}在第{digits(d, 6)}步",
        lambda d: f"电话费{digits(d, 3)}元，水费{digits(d, 2)}元", lambda d: f"护照办理需要{digits(d, 2)}天",
        lambda d: "示例：user@example.com",
        lambda d: f"一九{d.choice('四五六七')}九年十月一日第{d.randint(1, 9)}号令",
        lambda d: f"分辨率{digits(d, 4)}x{digits(d, 4)}，刷新率{digits(d, 3)}",
    ],
}


def part(carrier: str) -> str:
    """`held` or `seen`, by hash."""
    return "held" if hashlib.blake2b(carrier.encode()).digest()[0] % 2 else "seen"
